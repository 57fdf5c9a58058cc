"""A real HTTP server on a free port, which answers as the test says and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson

from tests.support.waiting import DEADLINE


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """A response."""

    body: bytes = b""
    status: int = 200
    headers: tuple[str, ...] = ()


def json(document: Any, status: int = 200) -> Reply:
    """A response of JSON."""
    return Reply(orjson.dumps(document), status)


class HttpServer:
    """Answers with what `respond` returns; a test may change it at any time."""

    def __init__(self, respond: Callable[[Asked], Awaitable[Reply]]) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.port = 0
        self._arrived = asyncio.Condition()
        self._handlers: set[asyncio.Task[None]] = set()

    def says(self, *replies: Reply) -> None:
        """From now on: these one after the other, and the last again and again."""
        left = list(replies)

        async def respond(_: Asked) -> Reply:
            return left.pop(0) if len(left) > 1 else left[0]

        self.respond = respond

    def stalls(self) -> None:
        """From now on: no answer at all."""

        async def respond(_: Asked) -> Reply:
            await asyncio.Event().wait()
            raise AssertionError("never")

        self.respond = respond

    async def was_asked(self, times: int) -> None:
        """Wait for so many requests, of all that ever came."""
        async with asyncio.timeout(DEADLINE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        try:
            while True:
                asked = await _request(reader)
                async with self._arrived:
                    self.asked.append(asked)
                    self._arrived.notify_all()
                reply = await self.respond(asked)
                lines = (f"HTTP/1.1 {reply.status} Status", f"Content-Length: {len(reply.body)}")
                head = "\r\n".join((*lines, *reply.headers))
                writer.write(f"{head}\r\n\r\n".encode() + reply.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client, or the test, has ended
        finally:
            self._handlers.discard(handler)
            writer.close()

    async def aclose(self) -> None:
        """End all connections."""
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers)


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split()
    return Asked(method, path, headers, body)


@asynccontextmanager
async def http_server(*replies: Reply) -> AsyncIterator[HttpServer]:
    """A server that gives these replies, one after the other, and the last again and again."""
    http = HttpServer(lambda _: asyncio.sleep(0, Reply(status=500)))
    if replies:
        http.says(*replies)
    server = await asyncio.start_server(http.serve, "127.0.0.1", 0)
    http.port = server.sockets[0].getsockname()[1]
    try:
        yield http
    finally:
        server.close()
        await http.aclose()
        await server.wait_closed()
