"""The client protocol's commands, and how they and the replies are written in JSON (docs/protocol.md)."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Never

import orjson

from service.errors import ReplyError, bad_request, method_not_found
from service.raw_json import JsonList
from service.request import Request

#: Commands this server knows.
METHODS = frozenset(
    (
        "connect",
        "subscribe",
        "unsubscribe",
        "publish",
        "presence",
        "presence_stats",
        "history",
        "ping",
        "send",
        "rpc",
        "refresh",
        "sub_refresh",
    )
)


class ProtocolViolation(Exception):
    """What came is not a command of the protocol at all: the session ends with 3501."""


class Command(NamedTuple):
    """One command. `error` is set where the method is unknown or its request malformed.

    Only `send` may have an `id` of 0.
    """

    id: int
    method: str
    request: Request
    error: ReplyError | None = None

    @property
    def answered(self) -> bool:
        """Whether the client awaits an answer."""
        return self.id > 0 and self.method != "send"


_NOTHING = Request({})

#: The beginning of a command as SDKs write it.
_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*([1-9][0-9]{0,9})\s*,')


def decode(line: bytes) -> Command | None:
    """One line of a text frame; None is a pong (`{}`).

    Raises:
        ProtocolViolation: not a JSON object, or without a usable id.
    """
    refused = None
    try:
        fields = orjson.loads(line)
    except ValueError:
        fields = _decode_leniently(line)
        refused = bad_request(
            "text with half a surrogate pair, a number too large or too many levels cannot be passed on"
        )
    if not isinstance(fields, dict):
        raise ProtocolViolation("not an object")
    if not fields:
        return None
    command_id = fields.pop("id", 0)
    if isinstance(command_id, bool) or not isinstance(command_id, int) or not 0 <= command_id <= 2**32 - 1:
        raise ProtocolViolation("id must be an integer from 1 to 2^32 - 1")
    if not command_id and "send" not in fields:
        raise ProtocolViolation("a command other than send has an id")
    if refused is not None:
        method = next(iter(METHODS.intersection(fields)), "unknown")
        return Command(command_id, method, _NOTHING, refused)
    if len(fields) != 1:
        error = bad_request("a command has exactly one method")
        return Command(command_id, "unknown", _NOTHING, error)
    ((method, request),) = fields.items()
    if method not in METHODS:
        return Command(command_id, "unknown", _NOTHING, method_not_found())
    if not isinstance(request, dict):
        return Command(command_id, method, _NOTHING, bad_request(f"{method} must be an object"))
    return Command(command_id, method, Request(request, line, method))


def _decode_leniently(line: bytes) -> Any:
    """What is valid JSON, but holds what no client could be sent: for its id, so that it can be answered.

    Such is a lone surrogate, which JavaScript writes where it has cut a text in the middle of a character.
    """
    try:
        return json.loads(line.decode(), parse_int=_integer, parse_float=str, parse_constant=_refuse)
    except ValueError:
        raise ProtocolViolation("not JSON") from None
    except RecursionError:
        if found := _ID_FIRST.match(line):
            return {"id": int(found[1]), "unknown": None}
        raise ProtocolViolation("nested too deeply") from None


def _integer(digits: str) -> int:
    # More digits are larger than any id, and may be too many to be converted.
    return int(digits) if len(digits) <= 10 else -1


def _refuse(constant: str) -> Never:
    raise ValueError(constant)  # NaN and Infinity, which are not JSON


def encode_reply(command: Command, result: dict[str, Any]) -> bytes:
    """The answer to a command."""
    return orjson.dumps({"id": command.id, command.method: result}, default=_encode)


def _encode(value: object) -> orjson.Fragment:
    if isinstance(value, JsonList):
        return orjson.Fragment(value.encoded())
    raise TypeError(type(value))


def encode_error(command: Command, error: ReplyError) -> bytes:
    """The refusal of a command."""
    return orjson.dumps({"id": command.id, "error": error.body()})


def encode_push(channel: str, kind: str, body: bytes) -> bytes:
    """A push of a channel; `body` is a JSON object."""
    return orjson.dumps({"push": {"channel": channel, kind: orjson.Fragment(body)}})
