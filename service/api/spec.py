"""What a method takes: parameters that are checked, and described as JSON Schema, from the same words."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.errors import bad_request
from service.request import MAX_INTEGER, Request
from service.session.context import Context

Schema = dict[str, Any]
Result = dict[str, Any]

#: Characters of a name that are repeated in an error.
SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Parameter(abc.ABC):
    """A parameter; null is as good as missing, except where any JSON is taken.

    Args:
        about: what it is, for the document.
        required: whether it must be there.
    """

    about: str = ""
    required: bool = False

    def check(self, value: Any, name: str) -> None:
        """Refuse what is not of this kind.

        Raises:
            ReplyError: 107; the text names the parameter and what is allowed.
        """
        self._check(value, name)

    def kind(self) -> Schema:
        """JSON Schema of a value that is there."""
        return self._kind()

    @abc.abstractmethod
    def _check(self, value: Any, name: str) -> None: ...

    @abc.abstractmethod
    def _kind(self) -> Schema: ...

    def schema(self) -> Schema:
        """JSON Schema of the parameter."""
        kind = self.kind()
        if "type" in kind and not self.required:
            kind["type"] = [kind["type"], "null"]
        return kind | ({"description": self.about} if self.about else {})


@dataclass(frozen=True, kw_only=True)
class Text(Parameter):
    """A string of `least` to `most` characters; `most` 0: as long as the request may be."""

    least: int = 1
    most: int = 0
    choices: tuple[str, ...] = ()

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, str):
            raise bad_request(f"{name} must be a string")
        if len(value) < self.least:
            raise bad_request(f"{name} must not be empty")
        if self.most and len(value) > self.most:
            raise bad_request(f"{name} has at most {self.most} characters, not {len(value)}")
        if self.choices and value not in self.choices:
            raise bad_request(f"{name} must be one of {', '.join(self.choices)}")

    def _kind(self) -> Schema:
        schema: Schema = {"type": "string"}
        if self.choices:
            return schema | {"enum": [*self.choices] + ([] if self.required else [None])}
        if self.least:
            schema["minLength"] = self.least
        if self.most:
            schema["maxLength"] = self.most
        return schema


@dataclass(frozen=True, kw_only=True)
class Integer(Parameter):
    """An integer from `least` to `most`."""

    least: int = 0
    most: int = MAX_INTEGER

    def _check(self, value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            highest = "2^53 - 1" if self.most == MAX_INTEGER else self.most
            raise bad_request(f"{name} must be an integer from {self.least} to {highest}")

    def _kind(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, kw_only=True)
class Flag(Parameter):
    """A boolean."""

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, bool):
            raise bad_request(f"{name} must be a boolean")

    def _kind(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class AnyJson(Parameter):
    """Any JSON, null too."""

    def _check(self, value: Any, name: str) -> None:
        """All is well."""

    def _kind(self) -> Schema:
        return {}


@dataclass(frozen=True, kw_only=True)
class AnyObject(Parameter):
    """Any JSON object."""

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")

    def _kind(self) -> Schema:
        return {"type": "object"}


@dataclass(frozen=True, kw_only=True)
class Texts(Parameter):
    """A list of `fewest` to `most` strings, each as `item` says."""

    item: Text = field(default_factory=Text)
    fewest: int = 0
    most: int

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, list) or not self.fewest <= len(value) <= self.most:
            raise bad_request(f"{name} must be a list of {self.fewest} to {self.most} strings")
        for at, each in enumerate(value):
            self.item.check(each, f"{name}[{at}]")

    def _kind(self) -> Schema:
        bounds = {"minItems": self.fewest, "maxItems": self.most}
        return {"type": "array", "items": self.item.kind(), **bounds}


@dataclass(frozen=True, kw_only=True)
class Tags(Parameter):
    """An object of at most `most` strings."""

    most: int
    longest: int

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, dict) or len(value) > self.most:
            raise bad_request(f"{name} must be an object of at most {self.most} strings")
        for key, each in value.items():
            Text(least=0, most=self.longest).check(each, f"{name}.{key[:SHOWN]}")

    def _kind(self) -> Schema:
        each = Text(least=0, most=self.longest).kind()
        return {"type": "object", "additionalProperties": each, "maxProperties": self.most}


@dataclass(frozen=True, kw_only=True)
class Nested(Parameter):
    """An object of parameters."""

    parameters: Mapping[str, Parameter]

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")
        check(self.parameters, value, f"{name}.")

    def _kind(self) -> Schema:
        return object_schema(self.parameters)


@dataclass(frozen=True, kw_only=True)
class Commands(Parameter):
    """A list of at most `most` objects with one member each: a method's name, and its parameters."""

    most: int

    def _check(self, value: Any, name: str) -> None:
        if not isinstance(value, list) or len(value) > self.most:
            raise bad_request(f"{name} must be a list of at most {self.most} commands")
        for at, each in enumerate(value):
            if not isinstance(each, dict) or len(each) != 1:
                raise bad_request(f'{name}[{at}] must be an object such as {{"publish": {{…}}}}')

    def _kind(self) -> Schema:
        one = {"type": "object", "minProperties": 1, "maxProperties": 1}
        return {"type": "array", "items": one, "maxItems": self.most}


def check(parameters: Mapping[str, Parameter], fields: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse what is missing, unknown or of the wrong kind.

    An unknown name is refused since it may be a mistyped one: without its `client` a call of disconnect
    would end all sessions of the user.

    Raises:
        ReplyError: 107.
    """
    for name in fields:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise bad_request(f"no parameter {(prefix + name)[:SHOWN]!r}; there are {known}")
    for name, parameter in parameters.items():
        missing = name not in fields or (fields[name] is None and not isinstance(parameter, AnyJson))
        if missing and parameter.required:
            raise bad_request(f"{prefix}{name} is required")
        if not missing:
            parameter.check(fields[name], prefix + name)


def object_schema(parameters: Mapping[str, Parameter]) -> Schema:
    """JSON Schema of an object that `check` lets pass."""
    schema: Schema = {
        "type": "object",
        "properties": {name: parameter.schema() for name, parameter in parameters.items()},
        "additionalProperties": False,
    }
    required = [name for name, parameter in parameters.items() if parameter.required]
    return schema | ({"required": required} if required else {})


Handler = Callable[[Context, Request], Awaitable[Result]]


class Method(NamedTuple):
    """A method of the API.

    Args:
        about: one sentence, for the document.
        result: the members of the result, to their JSON Schema.
        optional: those of them that may be missing.
        bare: the result stands alone, not in a member `result`.
    """

    about: str
    parameters: Mapping[str, Parameter]
    handler: Handler
    result: Mapping[str, Schema] = {}
    optional: tuple[str, ...] = ()
    bare: bool = False

    def result_schema(self) -> Schema:
        """JSON Schema of the result."""
        schema: Schema = {"type": "object", "properties": dict(self.result), "additionalProperties": False}
        required = [name for name in self.result if name not in self.optional]
        return schema | ({"required": required} if required else {})
