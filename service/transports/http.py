"""HTTP connections under uvicorn: a deadline for those that never say what they want, and admission.

WebSocket upgrades are admitted or refused here, before anything else is spent on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds that a client has for the head of its first request. uvicorn's own time-out begins after
#: the first answer.
REQUEST_SECONDS = 10.0


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
        admission: Admission | None = self.app_state.get(ADMISSION)
        if admission is None:
            super().handle_websocket_upgrade()
            return
        refusal = admission.admit(len(self.connections))
        if refusal is None:
            # What comes in the meantime belongs to the WebSocket.
            self.transport.pause_reading()
            admission.enter(self._upgrade)
            return
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

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
