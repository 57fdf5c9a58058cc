"""A real server whose application detaches its connections, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, ParamSpec, cast

import uvicorn
import uvloop

from service.transports.handshake import DETACH, HandshakeProtocol
from service.transports.http import HttpProtocol
from tests.support.waiting import eventually
from tests.unit.fakes.frames import server_frames

P = ParamSpec("P")
Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

#: Seconds that a client waits for the server.
DEADLINE_SECONDS = 10


def on_each_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop, which nodes use, and on asyncio's own: their transports buffer differently."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for factory in (uvloop.new_event_loop, asyncio.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(asyncio.wait_for(test(*args, **kwargs), 4 * DEADLINE_SECONDS))

    return run


@contextlib.asynccontextmanager
async def serving(app: App, state: dict[str, Any] | None = None) -> AsyncIterator[uvicorn.Server]:
    """A real server on a free port of loopback."""

    async def with_lifespan(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        scope["state"].update(state or {})
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    config = uvicorn.Config(
        cast(Any, with_lifespan),
        host="127.0.0.1",
        port=0,
        http=HttpProtocol,
        ws=HandshakeProtocol,
        ws_max_size=100_000,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    cast(Any, server).capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started, "the server listens")
        yield server
    finally:
        server.should_exit = True
        await task


class ByteClient:
    """A WebSocket client that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: uvicorn.Server, *headers: str) -> ByteClient:
        """Connect and ask for the upgrade."""
        port = server.servers[0].sockets[0].getsockname()[1]
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        key = base64.b64encode(b"0123456789abcdef").decode()
        lines = [
            "GET /ws?token=secret HTTP/1.1",
            "Host: example.org",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *headers,
        ]
        client.send("\r\n".join([*lines, "", ""]).encode())
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """The response: status and headers."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_SECONDS)).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}

    async def frame(self) -> tuple[int, bytes]:
        """The next frame, of less than 65,536 bytes."""
        head = await asyncio.wait_for(self.reader.readexactly(2), DEADLINE_SECONDS)
        extended = await self.reader.readexactly(2) if head[1] == 126 else b""
        size = int.from_bytes(extended, "big") if extended else head[1]
        payload = await asyncio.wait_for(self.reader.readexactly(size), DEADLINE_SECONDS)
        return server_frames(head + extended + payload)[0]

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE_SECONDS)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Echo(asyncio.Protocol):
    """A detached connection that sends back what comes, byte by byte."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.early = b""
        self.connections: set[Any] = set()
        self.lost = asyncio.Event()

    def attached(self, connections: set[Any], early: bytes) -> None:
        self.connections = connections
        self.early = early
        self.transport.write(early)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.lost.set()

    def shutdown(self) -> None:
        self.transport.close()


class DetachingApp:
    """Detaches each connection once `go` is set."""

    def __init__(self, subprotocol: str | None = None) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.called = asyncio.Event()
        self.returned = asyncio.Event()
        self.made: list[Echo] = []
        self.scopes: list[Message] = []
        self.results: list[bool] = []
        self._subprotocol = subprotocol

    def _make(self, transport: asyncio.Transport) -> Echo:
        self.made.append(Echo(transport))
        return self.made[-1]

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.called.set()
        await self.go.wait()
        self.results.append(scope["extensions"][DETACH](self._make, self._subprotocol))
        self.returned.set()
