"""Detached HTTP responses without an end: what the session sends, as events or lines.

The way back are requests of their own (emulation.py). On this connection nothing comes after the request.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from service.errors import INSUFFICIENT_STATE, TOO_MANY_ERRORS, Disconnect
from service.hub.publication import Publication, WireFormat
from service.session.codec import JSON, Codec
from service.session.context import Context
from service.session.state import State
from service.transports.connection import Connection

#: Bytes a client may send after its request before it is cut off. None are expected.
MAX_AFTER_REQUEST = 2048

#: Random bytes of what a client proves with that a session is its own.
SECRET_BYTES = 16


class JsonStream:
    """The wire format of JSON sessions over a response; one object serves all of a kind.

    Args:
        start: of a message.
        end: of a message. JSON without line breaks is between them.
    """

    __slots__ = ("_end", "_start")

    def __init__(self, start: bytes, end: bytes) -> None:
        self._start = start
        self._end = end

    def frame(self, message: bytes) -> bytes:
        """One message of the protocol."""
        return self._start + message + self._end

    def publications(self, channel: str, publications: Sequence[Publication]) -> bytes:
        """One message for each publication, joined."""
        start = self._start + b'{"push":{"channel":' + orjson.dumps(channel) + b',"'
        end = b"}}" + self._end
        return b"".join([b'%b%b":%b%b' % (start, p.kind, p.json, end) for p in publications])


EVENTS = JsonStream(b"data: ", b"\n\n")
LINES = JsonStream(b"", b"\n")


def disconnect_push(disconnect: Disconnect) -> bytes:
    """What stands for the close frame of a WebSocket."""
    return orjson.dumps({"push": {"disconnect": {"code": disconnect.code, "reason": disconnect.reason}}})


class HttpStreamConnection(Connection):
    """One client's response, after its head: a message is a line.

    Args:
        commands: what the client has sent with its request.
    """

    name: ClassVar[str] = "http_stream"
    content_type: ClassVar[bytes] = b"application/json"
    format: WireFormat
    codec: Codec = JSON
    _stream: ClassVar = LINES

    __slots__ = ("_ahead", "_commands", "_is_paused", "_received", "_relayed", "format", "secret")

    def __init__(self, context: Context, transport: asyncio.Transport, commands: bytes) -> None:
        self.format = self._stream  # an attribute, as of the other transports: it is the session's key
        self.secret = secrets.token_urlsafe(SECRET_BYTES)
        super().__init__(context, transport)
        self._commands = commands
        # Bytes that came after the request.
        self._ahead = 0
        # While the session takes nothing, what it is to be given then.
        self._is_paused = False
        self._received: list[bytes] | None = None
        # Whether commands have come by another node.
        self._relayed = False

    def attached(self, connections: set[Any], early: bytes) -> None:
        """The head is written: the commands of the request are the first."""
        self._context.emulated.add(self.secret, self)
        super().attached(connections, early)
        commands, self._commands = self._commands, b""
        self.receive(commands)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Not asked for, and passed over; no more than a little."""
        self._ahead += len(data)
        if self._ahead > MAX_AFTER_REQUEST:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._context.emulated.remove(self.secret)
        self._received = None
        super().connection_lost(exc)

    # What other connections bring

    def receive(self, message: bytes, *, relayed: bool = False) -> None:
        """Commands, one a line; they wait while the session takes none, up to the size of one message.

        Args:
            relayed: they came by another node.
        """
        self._relayed = self._relayed or relayed
        if self._session.state >= State.CLOSING:
            return
        if not self._is_paused:
            self._give(message)
            return
        self._received = self._received or []
        self._received.append(message)
        if sum(map(len, self._received)) > self._context.settings.limits.message_bytes:
            self._received = None
            self._session.close(TOO_MANY_ERRORS)

    def relayed_missed(self) -> None:
        """Commands that came by other nodes may be lost: the client is to ask again."""
        if self._relayed:
            self._session.close(INSUFFICIENT_STATE)

    def _give(self, message: bytes) -> None:
        try:
            self._session.receive(message)
        except Exception:
            self._failed()

    # What the session asks for

    def frame(self, message: bytes) -> bytes:
        """A message as a line, or an event."""
        return self._stream.frame(message)

    def close(self, disconnect: Disconnect) -> None:
        """Tell the client why, and end the response."""
        if not self._transport.is_closing():
            self._transport.write(self.frame(disconnect_push(disconnect)))
            self._transport.close()

    def pause_reading(self) -> None:
        """Commands wait from now on. The socket is read on: it tells when the client goes away."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Give the session what has waited, until it takes no more."""
        self._is_paused = False
        while self._received and not self._is_paused and self._session.state < State.CLOSING:
            self._give(self._received.pop(0))


class SseConnection(HttpStreamConnection):
    """The same as server-sent events: a message is an event."""

    __slots__ = ()

    name: ClassVar[str] = "sse"
    content_type: ClassVar[bytes] = b"text/event-stream"
    _stream: ClassVar = EVENTS
