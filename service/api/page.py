"""The demo page, and the page to try the server API."""

from __future__ import annotations

import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

#: Nothing but our own files and our own socket; the page needs no more.
CONTENT_SECURITY_POLICY = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'"

#: Where the page and what it loads lie.
WEB = Path(__file__).parent.parent / "web"

_TRY = Path(__file__).parent / "try.html"


async def page(request: Request) -> Response:
    """Quotes, scores and chat, live."""
    return FileResponse(WEB / "index.html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


async def try_page(request: Request) -> Response:
    """The server API by hand. One file: there is nothing else to be had on the admin port."""
    nonce = secrets.token_urlsafe(16)
    own = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    text = _TRY.read_text(encoding="utf-8").replace("NONCE", nonce)
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})
