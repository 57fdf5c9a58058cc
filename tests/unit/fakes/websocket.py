"""The server's WebSocket connection over a socket pair, and a client that sends it bytes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from service.session.session import Session
from service.transports.parsers import Parsers
from service.transports.websocket import WebSocketConnection
from tests.unit.fakes.frames import CLOSE, client_frame, server_frames
from tests.unit.fakes.session import World


class FakeSocketTransport:
    """An asyncio transport over one end of a socket pair; the other end is the client's.

    What the socket does not take is kept and pauses writing, as a real transport with a write limit of 0.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        for sock in (self._ours, self._theirs):
            sock.setblocking(False)
        self.protocol: Any = None
        self.buffer = b""
        self.paused = False
        self.closing = False
        self.aborted = False

    def end(self) -> None:
        self._ours.close()
        self._theirs.close()

    def get_extra_info(self, name: str) -> Any:
        return self._ours if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def write(self, data: bytes) -> None:
        if self.closing:
            return
        if not self.buffer:
            try:
                data = data[self._ours.send(data) :]
            except BlockingIOError:
                pass
        if data:
            was_empty = not self.buffer
            self.buffer += data
            if was_empty:
                self.protocol.pause_writing()

    def flush(self) -> None:
        """The socket may have room again: what the event loop would notice."""
        if self.buffer:
            try:
                self.buffer = self.buffer[self._ours.send(self.buffer) :]
            except BlockingIOError:
                return
            if not self.buffer:
                self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def received(self) -> bytes:
        """What the client finds in its socket now."""
        found = b""
        while True:
            try:
                data = self._theirs.recv(1 << 20)
            except BlockingIOError:
                return found
            found += data


class RawClient:
    """A connection of the server, and a client that sends it bytes."""

    kind = WebSocketConnection

    def __init__(self, world: World, parsers: Parsers, *, connected: bool = True) -> None:
        self.transport = FakeSocketTransport()
        self.connection = self.kind(world.context, parsers, cast(asyncio.Transport, self.transport))
        self.transport.protocol = self.connection
        self.connections: set[Any] = {self.connection}
        self.connection.attached(self.connections, b"")
        if connected:
            self.send(client_frame(b'{"id":1,"connect":{}}'))
            self.session.outbox.flush()
            self.transport.received()

    @property
    def session(self) -> Session:
        return self.connection._session

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def frames(self) -> list[tuple[int, bytes]]:
        """What the client has received since the last time: opcodes and payloads."""
        if not self.session.outbox.blocked:
            self.session.outbox.flush()
        return server_frames(self.transport.received())

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that came last."""
        found = [payload for opcode, payload in self.frames() if opcode == CLOSE]
        return int.from_bytes(found[-1][:2], "big") if found else None

    def end(self) -> None:
        """The connection is lost."""
        self.connection.connection_lost(None)
        self.transport.end()
