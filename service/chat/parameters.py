"""The parameters of chat commands, messages among them: what clients may say, checked."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from service.errors import bad_request
from service.request import Request

#: Characters of a nonce.
MAX_NONCE = 64

#: Characters of a user's id.
MAX_USER = 255

_ID = re.compile(r"(0|[1-9]\d{0,15})-(0|[1-9]\d{0,15})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Message(NamedTuple):
    """A message to be sent.

    Args:
        data: JSON object as it stands in the stream, `type` first.
        nonce: the client's name for it; "": none.
    """

    data: bytes
    nonce: str


def message(request: Request) -> Message:
    """A message, from the parameters of chat.send.

    Raises:
        ReplyError: 107.
    """
    data = {"type": "message", **content(request)}
    if request.text("reply_to"):
        data["reply_to"] = message_id(request, "reply_to")
    nonce = line(request, "nonce", MAX_NONCE)
    if nonce:
        data["nonce"] = nonce
    return Message(orjson.dumps(data), nonce)


def content(request: Request) -> dict[str, Any]:
    """What is said: `{"text": …}` or `{"body": …}`, fit for `orjson.dumps`.

    Raises:
        ReplyError: 107.
    """
    text = request.text("text")
    body = request.nested("body")
    if bool(text) == (body is not None):
        raise bad_request("either text, a string that is not empty, or body, an object, is required")
    return {"text": text} if body is None else {"body": orjson.Fragment(request.payload("body"))}


def message_id(request: Request, name: str) -> str:
    """The id of a message: digits, a hyphen, digits, as the stream writes it.

    Raises:
        ReplyError: 107, it is missing or something else.
    """
    value = request.text(name)
    if not _ID.fullmatch(value):
        raise bad_request(f"{name} must be the id of a message, such as 1700000000000-0")
    return value


def user_id(request: Request) -> str:
    """The parameter `user`.

    Raises:
        ReplyError: 107, it is missing or something else.
    """
    value = line(request, "user", MAX_USER)
    if not value:
        raise bad_request("user is required")
    return value


def integer(request: Request, name: str, most: int, *, least: int = 0, default: int = 0) -> int:
    """An integer from `least` to `most`; `default` where it is missing.

    Raises:
        ReplyError: 107.
    """
    return request.integer(name, least=least, most=most) if request.has(name) else default


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """One of some strings.

    Raises:
        ReplyError: 107, it is missing or something else.
    """
    value = request.text(name)
    if value not in choices:
        raise bad_request(f"{name} must be one of {', '.join(choices)}")
    return value


def user_ids(request: Request, name: str, most: int) -> list[str]:
    """A list of users; empty where it is missing.

    Raises:
        ReplyError: 107.
    """
    if not request.has(name):
        return []
    value = orjson.loads(request.payload(name))
    if not isinstance(value, list) or not all(isinstance(user, str) for user in value) or len(value) > most:
        raise bad_request(f"{name} must be a list of at most {most} strings")
    return value


def line(request: Request, name: str, most: int, *, lines: bool = False) -> str:
    """A short string without control characters; "" where it is missing.

    Args:
        most: characters it may have.
        lines: line feeds and tabs are all right.

    Raises:
        ReplyError: 107.
    """
    value = request.text(name)
    if len(value) > most:
        raise bad_request(f"{name} has at most {most} characters, not {len(value)}")
    if (_CONTROL_IN_LINES if lines else _CONTROL).search(value):
        raise bad_request(f"{name} has no control characters")
    return value
