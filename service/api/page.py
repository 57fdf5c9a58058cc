"""The demo page."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

#: Nothing but our own files and our own socket; the page needs no more.
CONTENT_SECURITY_POLICY = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'"

#: Where the page and what it loads lie.
WEB = Path(__file__).parent.parent / "web"


async def page(request: Request) -> Response:
    """Quotes, scores and chat, live."""
    return FileResponse(WEB / "index.html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})
