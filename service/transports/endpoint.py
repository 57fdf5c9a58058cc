"""The route of WebSocket clients: origin check, subprotocol, then the connection is detached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import cast
from urllib.parse import urlsplit

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from service.session.context import Context
from service.streams.quiet import OncePer
from service.transports.handshake import DETACH
from service.transports.parsers import Parsers
from service.transports.protobuf_websocket import ProtobufConnection
from service.transports.websocket import WebSocketConnection

logger = logging.getLogger(__name__)

#: What the formats of the protocol call themselves. Few clients that speak JSON ask for it by name.
SUBPROTOCOLS: dict[str, type[WebSocketConnection]] = {
    "centrifuge-json": WebSocketConnection,
    "centrifuge-protobuf": ProtobufConnection,
}


def spoken(asked: Sequence[str], query: QueryParams) -> tuple[type[WebSocketConnection], str | None]:
    """What is spoken with a client, and the subprotocol that it is told.

    Args:
        asked: subprotocols, the one it likes best first.
    """
    if "protobuf" in (query.get("format"), query.get("cf_protocol")):
        known = [name for name in asked if SUBPROTOCOLS.get(name) is ProtobufConnection]
        return ProtobufConnection, next(iter(known), None)
    for name in asked:
        if name in SUBPROTOCOLS:
            return SUBPROTOCOLS[name], name
    return WebSocketConnection, None


def origin_allowed(origin: str | None, host: str | None, allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin may connect (cross-site WebSocket hijacking).

    Args:
        origin: the Origin header; None where the client is no browser, which is fine.
        host: the Host header.
        allowed: origins that may, "*" for all; where empty, only pages of the same host.
    """
    if origin is None or "*" in allowed:
        return True
    if allowed:
        return origin in allowed
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # no URL at all
        return False


def websocket_endpoint(context: Context) -> Callable[[WebSocket], Awaitable[None]]:
    """The endpoint for `/connection/websocket`."""

    parsers = Parsers(context.settings.limits.message_bytes)

    log_limit = OncePer(60.0)

    async def endpoint(websocket: WebSocket) -> None:
        headers = websocket.headers
        origin = headers.get("origin")
        if not origin_allowed(origin, headers.get("host"), context.settings.server.allowed_origins):
            context.metrics.admission_rejected.labels("origin").inc()
            if log_limit.allows("origin"):  # one for all: a client may send any
                logger.warning(
                    "pages of %.200r may not connect; server.allowed_origins names those that may", origin
                )
            await websocket.send_denial_response(PlainTextResponse("this origin may not connect\n", 403))
            return
        kind, subprotocol = spoken(websocket.scope["subprotocols"], websocket.query_params)

        def take_over(transport: asyncio.Transport) -> WebSocketConnection:
            return kind(context, parsers, transport)

        detach = cast(Callable[..., None], websocket.scope["extensions"][DETACH])
        detach(take_over, subprotocol)

    return endpoint


async def no_such_path(websocket: WebSocket) -> None:
    """The endpoint of all other paths; Starlette would answer 403."""
    await websocket.send_denial_response(PlainTextResponse("not found\n", 404))
