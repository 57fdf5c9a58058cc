"""transports.protobuf_websocket: binary frames, and the same session behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from service.hub.publication import Publication
from service.transports.json_websocket import JSON_WEBSOCKET
from service.transports.parsers import Parsers
from service.transports.protobuf_websocket import PROTOBUF_WEBSOCKET, ProtobufConnection
from tests.support import protobuf
from tests.support.ws_client import Json
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import publication, start_at
from tests.unit.fakes.frames import BINARY, CLOSE, TEXT, client_frame, server_frames
from tests.unit.fakes.session import World
from tests.unit.fakes.websocket import RawClient


@pytest.mark.parametrize(
    "publication",
    [
        publication(5, b'{"price":1.50}'),
        Publication((5, 0), 20480, b"1", b'{"user":"u","client":"c"}', b'{"id":"5-0"}', 5),
        Publication.presence((5, 0), b"join", b'{"client":"c","conn_info":{"n":1}}'),
        Publication.presence((5, 0), b"leave", b'{"client":"c"}'),
    ],
)
@pytest.mark.parametrize("channel", ["chat:a", 'chat:"é😀'])
def test_publications(channel: str, publication: Publication) -> None:
    """A frame each, that says what the JSON says."""
    batch = [publication] * 3
    frames = server_frames(PROTOBUF_WEBSOCKET.publications(channel, batch))
    expected = [orjson.loads(text) for _, text in server_frames(JSON_WEBSOCKET.publications(channel, batch))]
    assert [opcode for opcode, _ in frames] == [BINARY] * 3
    assert [reply for _, payload in frames for reply in protobuf.replies(payload)] == expected


def test_the_newest_of_a_batch_is_made_once() -> None:
    """However many full sockets ask for it alone: they share it. In another channel it is another one."""
    batch = [publication(5), publication(6)]
    PROTOBUF_WEBSOCKET.publications("a", batch)
    newest = PROTOBUF_WEBSOCKET.publications("a", batch[-1:])
    assert PROTOBUF_WEBSOCKET.publications("a", batch[-1:]) is newest
    assert PROTOBUF_WEBSOCKET.publications("a", batch).endswith(newest)
    (_, payload), *_ = server_frames(PROTOBUF_WEBSOCKET.publications("b", batch[-1:]))
    assert protobuf.replies(payload)[0]["push"]["channel"] == "b"


class _Client(RawClient):
    kind = ProtobufConnection

    def call(self, *commands: bytes) -> None:
        self.send(client_frame(b"".join(commands), BINARY))

    def answers(self) -> list[Json]:
        frames = self.frames()
        assert {opcode for opcode, _ in frames} <= {BINARY}
        return [reply for _, payload in frames for reply in protobuf.replies(payload)]


Connect = Callable[..., _Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections; their sockets are closed at the end."""
    made: list[_Client] = []

    def make(world: World | None = None, **limits: Any) -> _Client:
        world = world or World(**limits)
        client = _Client(world, Parsers(world.settings.limits.message_bytes), connected=False)
        made.append(client)
        client.call(protobuf.command(1, connect={}))
        assert client.answers()[0]["connect"]["pong"] is True
        return client

    yield make
    for client in made:
        client.connection._socket.detach()
        client.transport.end()


@virtual_time
async def test_several_commands_in_one_frame(connect: Connect) -> None:
    """Each is answered, in order; so are refusals."""
    client = connect()
    client.call(protobuf.command(2, ping={}), b"\0", protobuf.command(3, rpc={"method": "x"}))
    client.call(protobuf.command(4, publish={"channel": "closed:a", "data": b"\xff"}))
    first, second, third = client.answers()
    assert first == {"id": 2, "ping": {}}
    assert (second["id"], second["error"]["code"]) == (3, 104)
    assert (third["id"], third["error"]["code"]) == (4, 107)


@virtual_time
async def test_both_formats_get_the_same(connect: Connect) -> None:
    """Of one channel, each in its own frames; a subscription that is taken away is told in its own, too."""
    world = World()
    client, other = connect(world), RawClient(world, Parsers(1 << 16))
    client.call(protobuf.command(2, subscribe={"channel": "log:a"}))
    other.send(client_frame(b'{"id":2,"subscribe":{"channel":"log:a"}}'))
    await turns(20)
    world.hub.deliver("log:a", [publication(50, b'{"a":1.50}'), publication(51)], (51, 0))
    world.hub.flush()
    world.hub.gap("log:a", start_at(60))
    await turns(20)
    told = [orjson.loads(payload) for opcode, payload in other.frames() if opcode == TEXT]
    assert client.answers() == told
    assert [next(iter(answer)) for answer in told] == ["id", "push", "push", "push"]
    other.connection._socket.detach()
    other.transport.end()


@virtual_time
async def test_pings(connect: Connect) -> None:
    """A message of length 0, each way; without a pong the session ends."""
    client = connect()
    seconds = client.session._context.settings.client
    for _ in range(2):
        client.session._act_at = 0.0
        client.session.on_deadline()
        assert client.frames() == [(BINARY, b"\0")]
        client.call(b"\0")
    client.session._act_at = 0.0
    client.session.on_deadline()
    client.session._act_at = 0.0
    client.session.on_deadline()
    assert client.close_code == 3012, seconds


@pytest.mark.parametrize(
    ("payload", "opcode", "code"),
    [
        (b'{"id":2,"ping":{}}', TEXT, 3506),
        (b"\x05ab", BINARY, 3501),
        (b"\x01\xff", BINARY, 3501),
        (b'{"id":2,"ping":{}}', BINARY, 3501),
    ],
)
@virtual_time
async def test_what_is_no_command_ends_the_session(
    connect: Connect, payload: bytes, opcode: int, code: int
) -> None:
    """As on a JSON connection."""
    client = connect()
    client.send(client_frame(payload, opcode))
    assert client.close_code == code


@pytest.mark.parametrize("payload", [b"\0" * 50, b"", protobuf.command(9, ping={}) * 50])
@virtual_time
async def test_the_rate_counts_messages(connect: Connect, payload: bytes) -> None:
    """However many are in one frame; a frame without any is one."""
    client = connect(commands_per_second=1, commands_burst=20, subscriptions=20)
    client.call(protobuf.command(2, ping={}) * 15)
    for _ in range(50):
        client.call(payload)
    assert client.close_code == 3509


@virtual_time
async def test_the_size_of_a_message(connect: Connect) -> None:
    """As on a JSON connection: the frame's."""
    client = connect(message_bytes=65_536)
    client.call(bytes(70_000))
    (end,) = [payload for opcode, payload in client.frames() if opcode == CLOSE]
    assert int.from_bytes(end[:2], "big") == 1009
