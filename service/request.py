"""The parameters of a command or call, read with their types checked."""

from __future__ import annotations

from typing import Any

import orjson

from service import raw_json
from service.errors import bad_request

#: The largest offset and id: what JavaScript holds exactly.
MAX_INTEGER = (1 << 53) - 1


class Request:
    """Named parameters.

    Args:
        source: the JSON text they were read from, if payloads shall be what it says to the letter.
        path: of names and indices, to them in the text.
    """

    __slots__ = ("_path", "_source", "fields")

    def __init__(self, fields: dict[str, Any], source: bytes = b"", *path: str | int) -> None:
        #: As they were read.
        self.fields = fields
        self._source = source
        self._path = path

    def names(self) -> list[str]:
        """What there is."""
        return list(self.fields)

    def has(self, name: str) -> bool:
        """Whether there is one of this name."""
        return name in self.fields

    def encoded(self) -> bytes:
        """All of it as a JSON object.

        Raises:
            ReplyError: 107, it is nested deeper than can be encoded.
        """
        try:
            return orjson.dumps(self.fields)
        except orjson.JSONEncodeError:
            raise bad_request("data is nested too deeply") from None

    def text(self, name: str) -> str:
        """A string; "" where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise bad_request(f"{name} must be a string")
        return value

    def required(self, name: str) -> str:
        """A string that is not empty.

        Raises:
            ReplyError: 107, it is missing or something else.
        """
        value = self.text(name)
        if not value:
            raise bad_request(f"{name} is required")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; False where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise bad_request(f"{name} must be a boolean")
        return value

    def integer(self, name: str, *, least: int = 0, most: int = MAX_INTEGER) -> int:
        """An integer from `least` to `most`; 0 where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            highest = "2^53 - 1" if most == MAX_INTEGER else most
            raise bad_request(f"{name} must be an integer from {least} to {highest}")
        return value

    def nested(self, name: str) -> Request | None:
        """An object; None where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")
        return Request(value, self._source, *self._path, name)

    def strings(self, name: str) -> list[str]:
        """A list of strings; empty where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise bad_request(f"{name} must be a list of strings")
        return value

    def objects(self, name: str) -> list[Request]:
        """A list of objects; empty where it is missing.

        Raises:
            ReplyError: 107, it is something else.
        """
        value = self.fields.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise bad_request(f"{name} must be a list of objects")
        return [Request(each, self._source, *self._path, name, at) for at, each in enumerate(value)]

    def payload(self, name: str) -> bytes:
        """Any JSON, as it was written, on one line.

        Raises:
            ReplyError: 107, it is missing, or nested deeper than can be encoded.
        """
        if name not in self.fields:
            raise bad_request(f"{name} is required")
        try:
            encoded = orjson.dumps(self.fields[name])
        except orjson.JSONEncodeError:
            raise bad_request(f"{name} is nested too deeply") from None
        if not self._source or encoded in self._source:  # nearly always: clients write no white space
            return encoded
        try:
            return raw_json.cut(self._source, *self._path, name).replace(b"\r", b" ").replace(b"\n", b" ")
        except RecursionError:
            return encoded
