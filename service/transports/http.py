"""HTTP connections under uvicorn: a deadline for those that never say what they want, admission, detaching.

WebSocket upgrades, and requests for responses without an end, are admitted or refused here, before anything
else is spent on them. The latter leave uvicorn as WebSockets do, by the ASGI extension `streamgate.detach`:
a callable that an endpoint calls *instead of* sending a response. It writes the head and hands the socket on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.transports.handshake import DETACH, Factory

#: Seconds that a client has for the head of its first request. uvicorn's own time-out begins after
#: the first answer.
REQUEST_SECONDS = 10.0


#: Paths of what is answered without an end, and so takes the place of a connection.
SSE_PATH, HTTP_STREAM_PATH = "/connection/sse", "/connection/http_stream"

#: Name of the lifespan state that holds the `Admission`.
ADMISSION = "streamgate.admission"


class Refusal(Protocol):
    """Why a connection is refused."""

    @property
    def reason(self) -> str:
        """For the client to read."""

    @property
    def retry_after(self) -> int:
        """Seconds after which it may be tried again."""


class Admission(Protocol):
    """Who decides."""

    def admit(self, connections: int) -> Refusal | None:
        """Why a new connection is refused; None admits it. Told how many there are, with the new one."""

    def enter(self, begin: Callable[[], None]) -> None:
        """Have one that was admitted begin when its turn comes."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP class. Pass it as `uvicorn.Config(http=…)`."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn does; the clock runs."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def on_headers_complete(self) -> None:
        """As uvicorn does; the clock stops."""
        self._stop_clock()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Admit, or refuse with 503; then as uvicorn does, when its turn comes."""
        # What comes in the meantime belongs to the WebSocket.
        self.transport.pause_reading()
        self._admits(self._upgrade)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """The same for responses without an end; all others as uvicorn does."""
        scope = cycle.scope
        if scope["path"] not in (SSE_PATH, HTTP_STREAM_PATH) or scope["method"] not in ("GET", "POST"):
            super()._start_asgi_task(cycle, app)
            return

        def begin() -> None:
            if not self.transport.is_closing():
                # Here only: they refer to each other, and what does is freed by nobody but the collector.
                cycle.scope["extensions"] = {DETACH: self._detach}  # type: ignore[dict-item]
                HttpToolsProtocol._start_asgi_task(self, cycle, app)

        if not self._admits(begin):
            cycle.response_complete = True

    def _admits(self, begin: Callable[[], None]) -> bool:
        """Have one more connection begin when its turn comes; else it is answered with 503."""
        admission: Admission | None = self.app_state.get(ADMISSION)
        if admission is None:
            begin()
            return True
        refusal = admission.admit(len(self.connections))
        if refusal is None:
            admission.enter(begin)
            return True
        body = refusal.reason + "\n"
        self.transport.write(
            "HTTP/1.1 503 Service Unavailable\r\n"
            f"Retry-After: {refusal.retry_after}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n"
            f"\r\n{body}".encode()
        )
        self.transport.close()
        return False

    def _detach(self, factory: Factory, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the head of a response that ends with the connection, and hand the socket on.

        Nothing happens where the client has gone already.
        """
        cycle, transport = self.cycle, self.transport
        if cycle.disconnected or transport.is_closing():
            return
        # For what uvicorn still does, it is over.
        cycle.response_started = cycle.response_complete = cycle.disconnected = True
        if self.pipeline:  # requests behind one whose answer does not end
            transport.abort()
            return
        lines = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        head = STATUS_LINE[200] + b"".join([b"%b: %b\r\n" % line for line in lines]) + b"\r\n"
        # So that it is written now; what the session writes goes past the transport.
        transport.set_write_buffer_limits(high=0)
        transport.write(head)
        self.connections.discard(self)
        detached = factory(transport)
        self.connections.add(cast(Any, detached))
        transport.set_protocol(cast(asyncio.BaseProtocol, detached))
        if transport.get_write_buffer_size():  # answers to earlier requests that nobody reads
            cast(asyncio.Protocol, detached).pause_writing()
        self.flow.resume_reading()
        # They refer to each other: freed now, and not by the garbage collector.
        self.parser = self.cycle = self.scope = cast(Any, None)
        detached.attached(self.connections, b"")

    def _upgrade(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
            super().handle_websocket_upgrade()
        # They refer to each other, and to nobody else: freed now, and not by the garbage collector.
        self.parser = cast(Any, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does; the clock stops."""
        self._stop_clock()
        super().connection_lost(exc)
        if self.scope is not None:
            self.scope.pop("extensions", None)  # they refer to each other

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
