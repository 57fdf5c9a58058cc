"""transports.handshake: detached connections lose no byte, and the others are plain ASGI."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from service.metrics import Metrics
from service.sections import Limits
from service.session.admission import Admission, Refusal
from service.transports.handshake import DETACH, HandshakeProtocol
from service.transports.http import ADMISSION
from service.transports.parsers import Parsers
from service.transports.websocket import WebSocketConnection
from tests.support.waiting import eventually
from tests.unit.fakes.clock import turns
from tests.unit.fakes.detaching import ByteClient, DetachingApp, Message, on_each_loop, serving
from tests.unit.fakes.frames import BINARY, CLOSE, TEXT, client_frame
from tests.unit.fakes.session import World

# Detached


@on_each_loop
async def test_a_detached_connection_outlives_its_endpoint() -> None:
    """101, and the bytes are the application's; the server knows the connection until it is lost."""
    app = DetachingApp("proto")
    async with serving(app) as server:
        client = await ByteClient.connect(server, "Sec-WebSocket-Protocol: proto")
        status, headers = await client.head()
        assert status == 101
        assert headers["sec-websocket-protocol"] == "proto"
        await app.returned.wait()
        await turns()
        client.send(b"raw bytes")
        assert await client.reader.readexactly(9) == b"raw bytes"
        assert list(server.server_state.connections) == cast(Any, app.made)
        assert server.server_state.tasks == set()
        await client.close()
        await app.made[0].lost.wait()
        assert server.server_state.connections == set()


@on_each_loop
async def test_what_comes_before_the_101_is_not_lost() -> None:
    """It is handed over in one step with the socket, in order with what follows."""
    app = DetachingApp()
    app.go.clear()
    async with serving(app) as server:
        client = await ByteClient.connect(server)
        await app.called.wait()
        client.send(b"early ")
        (connection,) = cast("set[HandshakeProtocol]", server.server_state.connections)
        await eventually(lambda: connection._early, "the early bytes")
        client.send(b"later")
        app.go.set()
        assert (await client.head())[0] == 101
        assert await client.reader.readexactly(11) == b"early later"
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

    async with serving(app) as server:
        client = await ByteClient.connect(server)
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
    app = DetachingApp()
    app.go.clear()
    async with serving(app) as server:
        client = await ByteClient.connect(server)
        await app.called.wait()
        await client.close()
        await eventually(lambda: not server.server_state.connections, "the connection is lost")
        app.go.set()
        await app.returned.wait()
        assert app.made == []


@on_each_loop
async def test_an_empty_subprotocol_header_means_none() -> None:
    """Some clients send one; it is neither refused nor answered."""
    app = DetachingApp()
    async with serving(app) as server:
        client = await ByteClient.connect(server, "Sec-WebSocket-Protocol: ")
        status, headers = await client.head()
        assert status == 101
        assert "sec-websocket-protocol" not in headers
        await client.close()


@on_each_loop
async def test_shutdown_reaches_detached_connections() -> None:
    """The server closes them with all the others."""
    app = DetachingApp()
    async with serving(app) as server:
        client = await ByteClient.connect(server)
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

    class OneOnly(Admission):
        def admit(self, connections: int) -> Refusal | None:
            counts.append(connections)
            return Refusal("too many connections", 7) if connections > 1 else None

    app = DetachingApp()
    async with serving(app, {ADMISSION: OneOnly(Limits(), Metrics())}) as server:
        first = await ByteClient.connect(server)
        assert (await first.head())[0] == 101
        await app.returned.wait()
        second = await ByteClient.connect(server)
        status, headers = await second.head()
        assert status == 503
        assert headers["retry-after"] == "7"
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
    async with serving(_echo_app) as server:
        client = await ByteClient.connect(server)
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

    async with serving(app) as server:
        client = await ByteClient.connect(server)
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

    async with serving(app) as server:
        client = await ByteClient.connect(server)
        assert (await client.head())[0] == 403
        await client.close()


@on_each_loop
async def test_what_is_no_handshake_is_refused() -> None:
    """Another version of the protocol is not admitted, and offers nothing to detach."""
    app = DetachingApp()
    async with serving(app) as server:
        client = await ByteClient.connect(server, "Sec-WebSocket-Version: 7")
        assert (await client.head())[0] in (400, 426)
        assert app.scopes == []
        await client.close()


def test_no_log_line_holds_a_query_string(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens are in it; with access_log off a detached connection leaves no trace of its URL."""

    @on_each_loop
    async def run() -> None:
        app = DetachingApp()
        async with serving(app) as server:
            client = await ByteClient.connect(server)
            await client.head()
            await client.close()
            await app.made[0].lost.wait()

    with caplog.at_level(logging.INFO):
        run()
    assert "secret" not in caplog.text
