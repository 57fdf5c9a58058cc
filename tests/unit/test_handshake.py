"""transports.handshake: detached connections lose no byte, and the others are plain ASGI."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, ParamSpec, cast

import pytest
import uvicorn
import uvloop

from service.transports.handshake import ADMISSION, DETACH, HandshakeProtocol
from service.transports.parsers import Parsers
from service.transports.websocket import WebSocketConnection
from tests.support.waiting import eventually
from tests.unit.fakes.clock import turns
from tests.unit.fakes.frames import BINARY, CLOSE, TEXT, client_frame, server_frames
from tests.unit.fakes.session import World

P = ParamSpec("P")
Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_DEADLINE = 10


def on_each_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop, which nodes use, and on asyncio's own: their transports buffer differently."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for factory in (uvloop.new_event_loop, asyncio.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(asyncio.wait_for(test(*args, **kwargs), 4 * _DEADLINE))

    return run


@contextlib.asynccontextmanager
async def _serving(app: App, state: dict[str, Any] | None = None) -> AsyncIterator[uvicorn.Server]:
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
        http="httptools",
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


class _Client:
    """A WebSocket client that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: uvicorn.Server, *headers: str) -> _Client:
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
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), _DEADLINE)).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}

    async def frame(self) -> tuple[int, bytes]:
        """The next frame, of less than 65,536 bytes."""
        head = await asyncio.wait_for(self._reader.readexactly(2), _DEADLINE)
        extended = await self._reader.readexactly(2) if head[1] == 126 else b""
        size = int.from_bytes(extended, "big") if extended else head[1]
        payload = await asyncio.wait_for(self._reader.readexactly(size), _DEADLINE)
        return server_frames(head + extended + payload)[0]

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self._reader.read(), _DEADLINE)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class _Echo(asyncio.Protocol):
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


class _DetachingApp:
    """Detaches each connection once `go` is set."""

    def __init__(self, subprotocol: str | None = None) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.called = asyncio.Event()
        self.returned = asyncio.Event()
        self.made: list[_Echo] = []
        self.scopes: list[Message] = []
        self.results: list[bool] = []
        self._subprotocol = subprotocol

    def _make(self, transport: asyncio.Transport) -> _Echo:
        self.made.append(_Echo(transport))
        return self.made[-1]

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.called.set()
        await self.go.wait()
        self.results.append(scope["extensions"][DETACH](self._make, self._subprotocol))
        self.returned.set()


# Detached


@on_each_loop
async def test_a_detached_connection_outlives_its_endpoint() -> None:
    """101, and the bytes are the application's; the server knows the connection until it is lost."""
    app = _DetachingApp("proto")
    async with _serving(app) as server:
        client = await _Client.connect(server, "Sec-WebSocket-Protocol: proto")
        status, headers = await client.head()
        assert status == 101
        assert headers["sec-websocket-protocol"] == "proto"
        await app.returned.wait()
        await turns()
        client.send(b"raw bytes")
        assert await client._reader.readexactly(9) == b"raw bytes"
        assert list(server.server_state.connections) == cast(Any, app.made)
        assert server.server_state.tasks == set()
        await client.close()
        await app.made[0].lost.wait()
        assert server.server_state.connections == set()


@on_each_loop
async def test_what_comes_before_the_101_is_not_lost() -> None:
    """It is handed over in one step with the socket, in order with what follows."""
    app = _DetachingApp()
    app.go.clear()
    async with _serving(app) as server:
        client = await _Client.connect(server)
        await app.called.wait()
        client.send(b"early ")
        (connection,) = cast("set[HandshakeProtocol]", server.server_state.connections)
        await eventually(lambda: connection._early, "the early bytes")
        client.send(b"later")
        app.go.set()
        assert (await client.head())[0] == 101
        assert await client._reader.readexactly(11) == b"early later"
        assert app.made[0].early == b"early "
        await client.close()


@on_each_loop
async def test_nothing_overtakes_the_101() -> None:
    """Even where early bytes are answered, and the session closed, in the very step that detaches it."""
    world = World()
    go, called = asyncio.Event(), asyncio.Event()

    def take_over(transport: asyncio.Transport) -> WebSocketConnection:
        return WebSocketConnection(world.context, Parsers(1000), transport)

    async def app(scope: Message, receive: Any, send: Any) -> None:
        called.set()
        await go.wait()
        assert scope["extensions"][DETACH](take_over)

    async with _serving(app) as server:
        client = await _Client.connect(server)
        await called.wait()
        client.send(client_frame(b'{"id":1,"connect":{}}') + client_frame(b"garbage"))
        (connection,) = cast("set[HandshakeProtocol]", server.server_state.connections)
        await eventually(lambda: connection._early, "the early bytes")
        go.set()
        assert (await client.head())[0] == 101
        opcode, payload = await client.frame()
        assert opcode == TEXT
        assert payload.startswith(b'{"id":1,"connect"')
        opcode, payload = await client.frame()
        assert (opcode, payload[:2]) == (CLOSE, (3501).to_bytes(2, "big"))
        await client.close()
        await eventually(lambda: not server.server_state.connections, "the connection is lost")


@on_each_loop
async def test_a_client_that_has_gone_is_not_detached() -> None:
    """The application is told, and makes nothing."""
    app = _DetachingApp()
    app.go.clear()
    async with _serving(app) as server:
        client = await _Client.connect(server)
        await app.called.wait()
        await client.close()
        await eventually(lambda: not server.server_state.connections, "the connection is lost")
        app.go.set()
        await app.returned.wait()
        assert app.made == []


@on_each_loop
async def test_an_empty_subprotocol_header_means_none() -> None:
    """Some clients send one; it is neither refused nor answered."""
    app = _DetachingApp()
    async with _serving(app) as server:
        client = await _Client.connect(server, "Sec-WebSocket-Protocol: ")
        status, headers = await client.head()
        assert status == 101
        assert "sec-websocket-protocol" not in headers
        await client.close()


@on_each_loop
async def test_shutdown_reaches_detached_connections() -> None:
    """The server closes them with all the others."""
    app = _DetachingApp()
    async with _serving(app) as server:
        client = await _Client.connect(server)
        await client.head()
        await app.returned.wait()
    assert await client.rest() == b""
    assert app.made[0].lost.is_set()
    await client.close()


# Admission


@on_each_loop
async def test_admission_refuses_before_a_task_exists() -> None:
    """503 with the reason and when to come back; it is told how many there are."""
    counts: list[int] = []

    def admission(count: int) -> str | None:
        counts.append(count)
        return "too many connections" if count > 1 else None

    app = _DetachingApp()
    async with _serving(app, {ADMISSION: admission}) as server:
        first = await _Client.connect(server)
        assert (await first.head())[0] == 101
        await app.returned.wait()
        second = await _Client.connect(server)
        status, headers = await second.head()
        assert status == 503
        assert headers["retry-after"] == "5"
        assert await second.rest() == b"too many connections\n"
        assert counts == [1, 2]
        assert len(app.scopes) == 1
        await first.close()
        await second.close()
        await eventually(lambda: not server.server_state.connections, "all are gone")


# Plain ASGI


async def _echo_app(scope: Message, receive: Any, send: Any) -> None:
    """An application that knows nothing of detaching."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


@on_each_loop
async def test_an_endpoint_that_does_not_detach_is_plain_asgi() -> None:
    """Accept, receive, send, close: all as uvicorn does."""
    async with _serving(_echo_app) as server:
        client = await _Client.connect(server)
        assert (await client.head())[0] == 101
        client.send(client_frame(b"hel", fin=False) + client_frame(b"", 9) + client_frame(b"lo", 0))
        frames = [await client.frame(), await client.frame()]
        assert sorted(frames) == [(TEXT, b"hello"), (10, b"")]
        client.send(client_frame(b"\x00\xff", BINARY))
        assert await client.frame() == (BINARY, b"\x00\xff")
        client.send(client_frame(b"bye"))
        opcode, payload = await client.frame()
        assert (opcode, payload) == (CLOSE, (4000).to_bytes(2, "big") + b"as you wish")
        await client.close()


@on_each_loop
async def test_plain_asgi_gets_what_came_early() -> None:
    """Frames that come before the accept are received after it."""
    go, called = asyncio.Event(), asyncio.Event()

    async def app(scope: Message, receive: Any, send: Any) -> None:
        called.set()
        await go.wait()
        await _echo_app(scope, receive, send)

    async with _serving(app) as server:
        client = await _Client.connect(server)
        await called.wait()
        client.send(client_frame(b"early"))
        (connection,) = cast("set[HandshakeProtocol]", server.server_state.connections)
        await eventually(lambda: connection._early, "the early bytes")
        go.set()
        assert (await client.head())[0] == 101
        assert await client.frame() == (TEXT, b"early")
        client.send(client_frame(b"later"))
        assert await client.frame() == (TEXT, b"later")
        await client.close()


@on_each_loop
async def test_a_refusal_of_the_application() -> None:
    """A close instead of an accept is 403."""

    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async with _serving(app) as server:
        client = await _Client.connect(server)
        assert (await client.head())[0] == 403
        await client.close()


@on_each_loop
async def test_what_is_no_handshake_is_refused() -> None:
    """Another version of the protocol is not admitted, and offers nothing to detach."""
    app = _DetachingApp()
    async with _serving(app) as server:
        client = await _Client.connect(server, "Sec-WebSocket-Version: 7")
        assert (await client.head())[0] in (400, 426)
        assert app.scopes == []
        await client.close()


def test_no_log_line_holds_a_query_string(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens are in it; with access_log off a detached connection leaves no trace of its URL."""

    @on_each_loop
    async def run() -> None:
        app = _DetachingApp()
        async with _serving(app) as server:
            client = await _Client.connect(server)
            await client.head()
            await client.close()
            await app.made[0].lost.wait()

    with caplog.at_level(logging.INFO):
        run()
    assert "secret" not in caplog.text
