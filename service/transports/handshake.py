"""The WebSocket handshake under uvicorn: plain ASGI, or a detached connection.

`HandshakeProtocol` is uvicorn's own WebSocket class, and offers the ASGI extension `streamgate.detach`: a
callable that an endpoint calls *instead of* `accept()`. It writes the 101 and hands the socket, with what
came before that, to a protocol object of the application's, in one step (between an accept and a later
detach a frame could be lost). The endpoint then returns; the connection stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request

#: Name of the ASGI extension.
DETACH = "streamgate.detach"


class Detached(Protocol):
    """A connection that has left its ASGI task."""

    def attached(self, connections: set[Any], early: bytes) -> None:
        """The socket is ours.

        Args:
            connections: the server's set of them, to be left when the connection is lost.
            early: bytes that the client sent before it had the 101.
        """


SUBPROTOCOL = "Sec-WebSocket-Protocol"

#: Makes the object that takes the transport over. It is an asyncio.Protocol too.
Factory = Callable[[asyncio.Transport], Detached]


class _Gone:
    """Stands in for a transport that was handed on: what uvicorn still does to it has no effect."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def close(self) -> None:
        """Leave the socket alone."""

    def is_closing(self) -> bool:
        """For the handshake, it is over."""
        return True


class HandshakeProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket class, made able to let a connection go. Pass it as `uvicorn.Config(ws=…)`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # What comes before the handshake is answered belongs to whoever will own the connection.
        self._early = b""

    def data_received(self, data: bytes) -> None:
        """Keep what comes too early; otherwise as uvicorn does."""
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn does; after an accept, what came too early is parsed."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # uvicorn forgets it, and logs an error
        if self._early and self.handshake_complete and not self.disconnected:
            early, self._early = self._early, b""
            self.transport.resume_reading()
            super().data_received(early)

    def handle_connect(self, event: Request) -> None:
        """As uvicorn does, and offer to detach."""
        if event.headers.get_all(SUBPROTOCOL) == [""]:  # centrifuge-python 0.5; it means none
            del event.headers[SUBPROTOCOL]
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope["extensions"])[DETACH] = self._detach

    async def run_asgi(self) -> None:
        """As uvicorn does; what has served is freed at once, and not by the garbage collector."""
        await super().run_asgi()
        if isinstance(self.transport, _Gone):
            self.scope.clear()  # type: ignore[attr-defined]
            self.conn.parser.close()

    def _detach(self, factory: Factory, subprotocol: str | None = None) -> None:
        """Accept the handshake and hand the socket on, unless the client has gone already."""
        transport = self.transport
        if self.disconnected or transport.is_closing():
            return
        if subprotocol is not None:
            self.response.headers[SUBPROTOCOL] = subprotocol
        self.conn.send_response(self.response)
        transport.write(b"".join(self.conn.data_to_send()))
        self.connections.discard(self)
        self.transport = cast(asyncio.Transport, _Gone())
        self.handshake_complete = self.disconnected = True
        detached = factory(transport)
        self.connections.add(cast(Any, detached))
        transport.set_protocol(cast(asyncio.BaseProtocol, detached))
        if self._early:
            transport.resume_reading()
        detached.attached(self.connections, self._early)
