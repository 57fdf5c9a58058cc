"""transports.http_stream: events and lines, and commands that wait while the session takes none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import orjson
import pytest

from service.errors import SHUTDOWN
from service.session.state import State
from service.transports.http_stream import (
    EVENTS,
    LINES,
    MAX_AFTER_REQUEST,
    HttpStreamConnection,
    JsonStream,
    SseConnection,
    disconnect_push,
)
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import publication
from tests.unit.fakes.session import World, publish_command
from tests.unit.fakes.websocket import FakeSocketTransport

CONNECT = b'{"id":1,"connect":{}}'


class _Client:
    """A connection of the server, and what its client sees."""

    def __init__(self, world: World, commands: bytes, kind: type[HttpStreamConnection]) -> None:
        self.transport = FakeSocketTransport()
        self.connection = kind(world.context, cast(asyncio.Transport, self.transport), commands)
        self.session = self.connection._session
        self.transport.protocol = self.connection
        self.connections: set[Any] = {self.connection}
        self.connection.attached(self.connections, b"")

    def received(self) -> bytes:
        if not self.session.outbox.blocked:
            self.session.outbox.flush()
        return self.transport.received()

    def ids(self) -> list[int]:
        return [orjson.loads(line).get("id", 0) for line in self.received().splitlines()]


Connect = Callable[..., _Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections; their sockets are closed at the end."""
    made: list[_Client] = []

    def make(
        world: World, commands: bytes = CONNECT, kind: type[HttpStreamConnection] = HttpStreamConnection
    ) -> _Client:
        made.append(_Client(world, commands, kind))
        return made[-1]

    yield make
    for client in made:
        client.connection._socket.detach()
        client.transport.end()


# Framing


@pytest.mark.parametrize("channel", ["chat:a", 'chat:"quoted"', "chat:é😀\u2028"])
@pytest.mark.parametrize("numbers", [[1], [1, 2, 3]])
@pytest.mark.parametrize(("format", "start", "end"), [(EVENTS, b"data: ", b"\n\n"), (LINES, b"", b"\n")])
def test_publications(channel: str, numbers: list[int], format: JsonStream, start: bytes, end: bytes) -> None:
    """Each is a push of its own: one event, or one line."""
    parts = format.publications(channel, [publication(n) for n in numbers]).split(end)
    assert parts.pop() == b""
    for number, part in zip(numbers, parts, strict=True):
        assert part.startswith(start)
        assert orjson.loads(part.removeprefix(start)) == {
            "push": {"channel": channel, "pub": {"data": {}, "offset": number << 12}}
        }


def test_messages() -> None:
    """Replies and pings are framed the same way."""
    assert EVENTS.frame(b"{}") == b"data: {}\n\n"
    assert LINES.frame(b"{}") == b"{}\n"
    assert disconnect_push(SHUTDOWN) == b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}'


# The connection


@virtual_time
async def test_the_request_brings_the_first_commands(connect: Connect) -> None:
    """They are answered; the client learns what it sends the next ones under."""
    world = World()
    client = connect(world, CONNECT + b"\n" + b'{"id":2,"ping":{}}', SseConnection)
    hello, ping, rest = client.received().split(b"\n\n")
    result = orjson.loads(hello.removeprefix(b"data: "))["connect"]
    assert (result["session"], result["node"]) == (client.connection.secret, "node")
    assert (ping, rest) == (b'data: {"id":2,"ping":{}}', b"")
    assert client.connection.secret in world.context.emulated
    client.connection.connection_lost(None)
    assert client.connection.secret not in world.context.emulated
    assert client.connections == set()


@virtual_time
async def test_secrets_differ(connect: Connect) -> None:
    """128 random bits for each, and none is the client's id, which others see."""
    world = World()
    clients = [connect(world) for _ in range(10)]
    secrets = {client.connection.secret for client in clients}
    assert len(secrets) == 10
    assert all(len(secret) == 22 for secret in secrets)
    assert not secrets & {client.session.id for client in clients}


@virtual_time
async def test_closing_tells_why(connect: Connect) -> None:
    """The push is the last that is written; the response ends."""
    client = connect(World())
    client.received()
    client.connection.shutdown()
    assert client.transport.received() == LINES.frame(disconnect_push(SHUTDOWN))
    assert client.transport.closing
    assert not client.transport.aborted
    assert client.session.state is State.CLOSING
    client.connection.receive(b'{"id":2,"ping":{}}')
    assert client.received() == b""


@virtual_time
async def test_what_follows_the_request(connect: Connect) -> None:
    """It is passed over, up to a bound; the end of it is the end."""
    client = connect(World())
    client.connection.data_received(b"x" * MAX_AFTER_REQUEST)
    assert not client.transport.closing
    client.connection.data_received(b"x")
    assert client.transport.aborted
    assert client.connection.eof_received() is False


@virtual_time
async def test_commands_wait_in_order_while_too_many_are_in_flight(connect: Connect) -> None:
    """The socket is read on, so that a client that goes away is noticed."""
    world = World(commands_in_flight=2)
    gate = world.publisher.gates[b'"gate"'] = asyncio.Event()
    client = connect(world)
    client.connection.receive(publish_command(2, data=b'"gate"'))
    for number in range(3, 9):
        client.connection.receive(publish_command(number, data=b"%d" % number))
    assert client.connection._is_paused
    assert not client.transport.paused
    await turns()
    assert client.ids() == [1]
    gate.set()
    await turns(100)
    assert client.ids() == list(range(2, 9))
    assert not client.connection._is_paused


@virtual_time
async def test_what_waits_is_bounded(connect: Connect) -> None:
    """By the size of one message."""
    world = World(commands_in_flight=1, message_bytes=1000, publication_bytes=1000)
    gate = world.publisher.gates[b'"gate"'] = asyncio.Event()
    client = connect(world)
    client.connection.receive(publish_command(2, data=b'"gate"'))
    while not client.transport.closing:
        client.connection.receive(publish_command(3, data=b'"%b"' % (b"x" * 300)))
    assert client.session.close_code == 3509
    gate.set()
    await turns()


@virtual_time
async def test_mail_that_was_lost_concerns_those_who_get_any(connect: Connect) -> None:
    """They are closed with 3010; the others stay."""
    world = World()
    here, there = connect(world), connect(world)
    world.context.emulated.mail({"session": there.connection.secret, "data": '{"id":2,"ping":{}}'})
    world.context.emulated.mail({"session": "nobody's", "data": "{}"})
    world.context.emulated.mail({"session": 1})
    world.context.emulated.give(here.connection.secret, b'{"id":3,"ping":{}}')
    assert (here.ids(), there.ids()) == ([1, 3], [1, 2])
    world.context.emulated.missed()
    assert (here.session.close_code, there.session.close_code) == (0, 3010)
