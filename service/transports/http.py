"""HTTP connections under uvicorn, with a deadline for those that never say what they want."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds that a client has for the head of its first request. uvicorn's own time-out begins after
#: the first answer.
REQUEST_SECONDS = 10.0


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

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does; the clock stops."""
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
