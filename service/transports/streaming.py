"""`/connection/sse` and `/connection/http_stream`: the routes of responses without an end."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.session.context import Context
from service.transports.cors import Cors
from service.transports.handshake import DETACH
from service.transports.http_stream import HttpStreamConnection, SseConnection
from service.transports.requests import Refused, body_of, refusal_of

#: The parameter that holds commands where they are not in a body.
CF_CONNECT = "cf_connect"


class StreamEndpoint:
    """Takes the first commands, and lets the connection go.

    Args:
        connection: what becomes of it.
        methods: of HTTP; GET takes commands from the URL.
    """

    def __init__(
        self,
        context: Context,
        cors: Cors,
        connection: type[HttpStreamConnection],
        methods: tuple[str, ...],
    ) -> None:
        self._context = context
        self._cors = cors
        self._connection = connection
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it; but what has left it gets no response from here."""
        http = Request(scope, receive)
        response = self._cors.check(http, self._methods)
        if response is None:
            try:
                commands = await self._commands(http)
            except Refused as exc:
                response = refusal_of(exc)
                self._cors.allow(http, response)
            else:
                self._detach(http, commands)
                return
        await response(scope, receive, send)

    async def _commands(self, http: Request) -> bytes:
        limit = self._context.settings.limits.message_bytes
        if http.method == "GET":
            commands = http.query_params.get(CF_CONNECT, "").encode(errors="replace")
            if len(commands) > limit:
                raise Refused(414, f"{CF_CONNECT} has at most {limit} bytes")
        else:
            if http.headers.get("content-type", "").startswith("application/octet-stream"):
                raise Refused(415, "commands are JSON here")
            commands = await body_of(http, limit)
        if not commands.strip():
            raise Refused(400, "a request brings its first commands with it")
        return commands

    def _detach(self, http: Request, commands: bytes) -> None:
        head = Response(headers=self._cors.headers(http)).raw_headers
        head = [(name, value) for name, value in head if name != b"content-length"]
        head += [
            (b"content-type", self._connection.content_type),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),
            (b"x-content-type-options", b"nosniff"),
        ]
        take_over = partial(self._connection, self._context, commands=commands)
        http.scope["extensions"][DETACH](take_over, head)


def sse_endpoint(context: Context, cors: Cors) -> StreamEndpoint:
    """The endpoint for `/connection/sse`."""
    return StreamEndpoint(context, cors, SseConnection, ("GET", "POST"))


def http_stream_endpoint(context: Context, cors: Cors) -> StreamEndpoint:
    """The endpoint for `/connection/http_stream`."""
    return StreamEndpoint(context, cors, HttpStreamConnection, ("POST",))
