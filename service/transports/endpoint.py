"""The route of WebSocket clients: origin check, subprotocol, then the connection is detached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from service.session.context import Context
from service.transports.handshake import DETACH
from service.transports.origins import Origins
from service.transports.parsers import Parsers
from service.transports.protobuf_websocket import ProtobufConnection
from service.transports.websocket import WebSocketConnection

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


def websocket_endpoint(context: Context) -> Callable[[WebSocket], Awaitable[None]]:
    """The endpoint for `/connection/websocket`."""

    parsers = Parsers(context.settings.limits.message_bytes)

    origins = Origins(context.settings.server.allowed_origins, context.metrics)

    async def endpoint(websocket: WebSocket) -> None:
        if not origins.allow(websocket.headers):
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
