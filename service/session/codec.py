"""How messages of the protocol become bytes and the reverse, in one format; here, JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from service.errors import ReplyError
from service.session import protocol
from service.session.protocol import Command


class Codec(Protocol):
    """A format of the protocol; one object for all sessions that speak it."""

    @property
    def ping(self) -> bytes:
        """The message that asks whether the client is there."""

    def split(self, message: bytes) -> Iterable[bytes]:
        """What a client sent in one go, one by one. Not even an empty one is without an item.

        Raises:
            ProtocolViolation: the bytes are no such sequence.
        """

    def decode(self, item: bytes) -> Command | None:
        """One of them; None is a pong, or nothing.

        Raises:
            ProtocolViolation: what came is no command.
        """

    def encode_reply(self, command: Command, result: dict[str, Any]) -> bytes:
        """The answer to a command."""

    def encode_error(self, command: Command, error: ReplyError) -> bytes:
        """The refusal of a command."""

    def encode_push(self, channel: str, kind: str, body: bytes) -> bytes:
        """A push of a channel, such as `pub` or `unsubscribe`; `body` is a JSON object."""


class JsonCodec:
    """One JSON object a line."""

    __slots__ = ()

    ping = b"{}"
    encode_reply = staticmethod(protocol.encode_reply)
    encode_error = staticmethod(protocol.encode_error)
    encode_push = staticmethod(protocol.encode_push)

    def split(self, message: bytes) -> Iterable[bytes]:
        """Lines."""
        return message.removesuffix(b"\n").split(b"\n")

    def decode(self, item: bytes) -> Command | None:
        """A line; an empty one is nothing."""
        return None if not item or item.isspace() else protocol.decode(item)


JSON = JsonCodec()
