"""`/emulation`: the way from clients to their sessions where that is not the way back."""

from __future__ import annotations

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import CommandFailed, Unavailable
from service.session.context import Context
from service.streams.mailbox import Mailbox
from service.transports.cors import Cors
from service.transports.requests import Refused, body_of, refusal_of

#: What a node calls itself.
_NODE = re.compile(r"[0-9a-f]{16}")

#: What a pong looks like. It changes nothing, so it need not wait for what came before.
_PONG = "{}"


class EmulationEndpoint:
    """POST `{"session", "node", "data"}`; `data` holds commands, one a line. 204: they are on their way."""

    def __init__(self, context: Context, mailbox: Mailbox, cors: Cors) -> None:
        self._context = context
        self._mailbox = mailbox
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        http = Request(scope, receive)
        response = self._cors.check(http, ("POST",))
        if response is None:
            try:
                result = await self._take(http)
                response = Response(status_code=204)
            except Refused as exc:
                result, response = "refused", refusal_of(exc)
            self._context.metrics.emulated.labels(result).inc()
            self._cors.allow(http, response)
        await response(scope, receive, send)

    async def _take(self, http: Request) -> str:
        limit = self._context.settings.limits.message_bytes
        # In a JSON string within JSON every quote takes one byte more.
        body = await body_of(http, 2 * limit + 1024)
        try:
            fields = orjson.loads(body)
        except ValueError:
            raise Refused(400, "the request is not JSON") from None
        match fields:
            case {"session": str(session), "node": str(node), "data": str(data)}:
                pass
            case _:
                raise Refused(400, "session, node and data must be strings")
        if len(data.encode()) > limit:
            raise Refused(413, f"a message has at most {limit} bytes")
        if node == self._context.node:
            return await self._give(session, data)
        return await self._relay(node, session, data)

    async def _give(self, session: str, data: str) -> str:
        if session in self._context.emulated and data != _PONG:
            # What the client had a 204 for from another node may still be on its way here.
            await self._mailbox.settle()
        if session not in self._context.emulated:
            raise Refused(404, "no such session")
        self._context.emulated.give(session, data.encode())
        return "here"

    async def _relay(self, node: str, session: str, data: str) -> str:
        if not _NODE.fullmatch(node):
            raise Refused(404, "no such node")
        try:
            exists = await self._mailbox.send(node, {"session": session, "data": data})
        except (Unavailable, CommandFailed):
            raise Refused(503, "the other node cannot be reached") from None
        if not exists:
            raise Refused(404, "no such node")
        return "relayed"
