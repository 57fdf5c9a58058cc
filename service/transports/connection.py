"""A socket taken over from uvicorn: what connections of all transports have in common.

Neither a coroutine, nor a queue, nor a task for each: the session's bytes go straight to the system call.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, ClassVar

from service.errors import SERVER_ERROR, SHUTDOWN, Disconnect
from service.hub.publication import WireFormat
from service.session.codec import Codec
from service.session.context import Context
from service.session.session import Session

logger = logging.getLogger(__name__)

#: Linux' number, where Python does not know it.
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)

#: SO_LINGER on, for 0 s.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

#: Unsent bytes the kernel keeps for a socket. Beyond, backlog waits in our outbox, where frames are
#: shared between all subscribers and can be conflated.
NOTSENT_LOWAT = 16_384

#: The transport's own buffer holds what is left of one write, nothing more: any remainder pauses.
WRITE_LIMIT = 0


class Connection(asyncio.Protocol, abc.ABC):
    """One client's connection, and the `Transport` of its session."""

    #: What metrics call it.
    name: ClassVar[str]
    format: WireFormat
    codec: Codec
    #: What the client sends commands under that come by other connections; "": none do.
    secret = ""

    __slots__ = ("_connections", "_context", "_session", "_socket", "_transport")

    def __init__(self, context: Context, transport: asyncio.Transport) -> None:
        self._context = context
        self._transport = transport
        self._connections: set[Any] | None = None
        # The same socket as the transport's, and given back to it in `connection_lost`.
        lent = transport.get_extra_info("socket")
        self._socket = socket.socket(lent.family, lent.type, lent.proto, fileno=lent.fileno())
        if lent.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self._session = Session(context, self)

    def attached(self, connections: set[Any], early: bytes) -> None:
        """The socket is ours; `early` came before what it was taken over for was answered."""
        self._connections = connections
        self._context.metrics.connections.labels(self.name).inc()
        self._context.metrics.connections_opened.labels(self.name).inc()
        if early:
            self.data_received(early)

    # asyncio.Protocol

    def eof_received(self) -> bool:
        """The client sends no more: so be it."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        if self._connections is not None:
            self._connections.discard(self)
            self._connections = None
            self._context.metrics.connections.labels(self.name).dec()
        # Before the transport closes the descriptor: a write that came too late must not meet its next owner.
        self._socket.detach()
        self._session.closed()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._session.outbox.block()

    def resume_writing(self) -> None:
        """The socket has room."""
        try:
            self._session.outbox.unblock()
        except Exception:
            self._failed()

    # uvicorn

    def shutdown(self) -> None:
        """The server goes down."""
        self._session.close(SHUTDOWN)

    # What the session asks for

    @property
    def transmit(self) -> Callable[[bytes], int]:
        """The bare system call."""
        return self._socket.send

    def write(self, data: bytes) -> None:
        """Give bytes to the socket.

        Straight to the system call (docs/decisions/0006); the transport gets what the socket did not take.
        The outbox is not blocked, so the transport has nothing buffered. It is looked at neither: this is
        the hot path, and another object's memory would cost more than all of the rest.
        """
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the transport will hear of it, too
            self._transport.abort()
            return
        if sent < len(data):
            self._transport.write(memoryview(data)[sent:])

    def finish(self, data: bytes) -> None:
        """Give the socket the rest of what has been begun, behind what the transport has buffered."""
        if not self._transport.is_closing():
            self._transport.write(data)

    @abc.abstractmethod
    def frame(self, message: bytes) -> bytes:
        """The bytes on the wire of one message of the protocol."""

    @abc.abstractmethod
    def close(self, disconnect: Disconnect) -> None:
        """Begin to close: the last thing that is written."""

    @abc.abstractmethod
    def pause_reading(self) -> None:
        """Give the session nothing more for now."""

    @abc.abstractmethod
    def resume_reading(self) -> None:
        """Give it what comes again."""

    def abort(self) -> None:
        """Cut the connection at once, with a reset: a full send queue would keep the socket for minutes."""
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def _failed(self) -> None:
        """A fault of ours ends this session and no other."""
        logger.exception("session %s failed", self._session.id)
        self._session.close(SERVER_ERROR)
