"""transports.websocket: RFC 6455 without a task, and a flood from one client delays nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from service.session.session import Session
from service.session.state import State
from service.transports import websocket as websocket_module
from service.transports.parsers import Parsers
from service.transports.websocket import MAX_AFTER_CLOSE, PIECE
from tests.unit.fakes.clock import Clock, turns, virtual_time
from tests.unit.fakes.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame
from tests.unit.fakes.session import World
from tests.unit.fakes.websocket import RawClient

Connect = Callable[..., RawClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes connections; their sockets are closed at the end."""
    made: list[RawClient] = []

    def make(world: World | None = None, *, connected: bool = True, **limits: Any) -> RawClient:
        world = world or World(**limits)
        client = RawClient(world, Parsers(world.settings.limits.message_bytes), connected=connected)
        made.append(client)
        return client

    yield make
    for client in made:
        client.connection._socket.detach()
        client.transport.end()


def _command(number: int, method: bytes = b"ping") -> bytes:
    return b'{"id":%d,"%b":{}}' % (number, method)


def _ids(frames: list[tuple[int, bytes]]) -> list[int]:
    return [orjson.loads(payload)["id"] for opcode, payload in frames if opcode == TEXT]


# Messages


@virtual_time
async def test_a_message_is_answered(connect: Connect) -> None:
    """A text frame in, a text frame out; an idle connection keeps no parser."""
    client = connect(connected=False)
    client.send(client_frame(_command(1, b"connect")))
    assert _ids(client.frames()) == [1]
    assert client.connection._parser is None


@virtual_time
async def test_several_frames_at_once_and_one_in_pieces(connect: Connect) -> None:
    """What a read brings has nothing to do with frames."""
    client = connect()
    data = client_frame(_command(2)) + client_frame(_command(3)) + client_frame(_command(4))
    client.send(data[:-5])
    assert _ids(client.frames()) == [2, 3]
    assert client.connection._parser is not None
    client.send(data[-5:])
    assert _ids(client.frames()) == [4]
    assert client.connection._parser is None


@virtual_time
async def test_control_frames_between_fragments(connect: Connect) -> None:
    """They are answered at once; the message is whole when its last fragment comes."""
    client = connect()
    text = _command(2)
    client.send(client_frame(text[:4], fin=False) + client_frame(b"are you there", PING))
    assert client.frames() == [(PONG, b"are you there")]
    assert client.connection._parser is not None
    client.send(client_frame(b"", PONG) + client_frame(text[4:9], CONT, fin=False))
    client.send(client_frame(b"", PING) + client_frame(text[9:], CONT))
    frames = client.frames()
    assert frames[0] == (PONG, b"")
    assert _ids(frames) == [2]


@virtual_time
async def test_a_character_across_fragments(connect: Connect) -> None:
    """UTF-8 is checked for the whole message."""
    client = connect()
    text = '{"id":2,"fly":"€😀"}'.encode()
    at = text.index("€".encode()) + 1
    client.send(client_frame(text[:at], fin=False) + client_frame(text[at : at + 4], CONT, fin=False))
    client.send(client_frame(text[at + 4 :], CONT))
    assert _ids(client.frames()) == [2]
    assert not client.transport.closing


@virtual_time
async def test_pongs_go_behind_what_is_pending(connect: Connect) -> None:
    """One way out: nothing overtakes."""
    client = connect()
    client.send(client_frame(_command(2)) + client_frame(b"p", PING) + client_frame(_command(3)))
    assert [opcode for opcode, _ in client.frames()] == [TEXT, PONG, TEXT]


# Closing codes


@pytest.mark.parametrize(
    ("case", "data", "code"),
    [
        ("not masked", b"\x81\x01x", 1002),
        ("reserved bit", b"\xc1\x80\x00\x00\x00\x00", 1002),
        ("reserved opcode", b"\x83\x80\x00\x00\x00\x00", 1002),
        ("long control frame", client_frame(b"x" * 126, PING), 1002),
        ("fragmented control frame", client_frame(b"x", PING, fin=False), 1002),
        ("continuation of nothing", client_frame(b"x", CONT), 1002),
        ("a text within a message", client_frame(b"x", fin=False) + client_frame(b"y"), 1002),
        ("close with one byte", client_frame(b"x", CLOSE), 1002),
        ("close with a reserved code", client_frame(b"\x03\xed", CLOSE), 1002),
        ("not UTF-8", client_frame(b'{"id":2,"a":"\xff"}'), 1007),
        ("a surrogate", client_frame(b"\xed\xa0\x80"), 1007),
        ("half a character at the end", client_frame(b"\xe2\x82", fin=False) + client_frame(b"", CONT), 1007),
        ("too large", client_frame(b"x" * 1001), 1009),
        ("too large, announced", client_frame(b"x" * 1001)[:10], 1009),
        (
            "too large in fragments",
            client_frame(b"x" * 600, fin=False) + client_frame(b"x" * 600, CONT),
            1009,
        ),
        ("a length of 63 bits", b"\x81\xff\x7f" + b"\xff" * 7 + b"mask", 1009),
    ],
)
def test_what_breaks_rfc_6455(case: str, data: bytes, code: int, connect: Connect) -> None:
    """Answered with its code, and the socket is closed; the session has ended."""

    @virtual_time
    async def run() -> None:
        client = connect(message_bytes=1000, publication_bytes=1000)
        client.send(client_frame(_command(2)) + data)
        assert client.close_code == code, case
        assert client.transport.closing
        assert client.session.state >= State.CLOSING
        client.send(client_frame(_command(3)))
        assert client.frames() == []

    run()


@virtual_time
async def test_binary_frames_are_the_wrong_protocol(connect: Connect) -> None:
    """3506 on a JSON connection, for a whole one and for a fragmented one."""
    client = connect()
    client.send(client_frame(b"x", BINARY))
    assert client.close_code == 3506
    other = connect()
    other.send(client_frame(b"x", BINARY, fin=False))
    other.send(client_frame(b"x", CONT))
    assert other.close_code == 3506


@pytest.mark.parametrize("payload", [b"", (1000).to_bytes(2, "big") + b"bye", (4001).to_bytes(2, "big")])
def test_a_client_that_closes(payload: bytes, connect: Connect) -> None:
    """Its close is answered with the same code, and the socket closed."""

    @virtual_time
    async def run() -> None:
        client = connect()
        client.send(client_frame(payload, CLOSE))
        assert client.frames() == [(CLOSE, payload)]
        assert client.transport.closing
        client.end()
        assert client.connections == set()

    run()


@virtual_time
async def test_a_server_that_closes_waits_for_the_client(connect: Connect) -> None:
    """Code and reason are sent; the socket is closed when the answer has come."""
    client = connect()
    client.connection.shutdown()
    assert client.frames() == [(CLOSE, (3001).to_bytes(2, "big") + b"shutdown")]
    assert not client.transport.closing
    client.send(client_frame(_command(2)) + client_frame(b"p", PING))
    assert client.frames() == []
    client.send(client_frame((3001).to_bytes(2, "big"), CLOSE))
    assert client.transport.closing


@virtual_time
async def test_a_flood_after_our_close_is_cut_off(connect: Connect) -> None:
    """Only the client's close frame is of interest."""
    client = connect()
    client.connection.shutdown()
    frame = client_frame(b"x" * 1000)
    sent = 0
    while not client.transport.aborted:
        client.send(frame)
        sent += len(frame)
        assert sent < 2 * MAX_AFTER_CLOSE + 2000
    assert sent > MAX_AFTER_CLOSE


@virtual_time
async def test_a_close_while_reading_is_paused(connect: Connect) -> None:
    """The client's close frame must be seen, so reading goes on."""
    world = World(commands_in_flight=1)
    world.publisher.gates[b"1"] = asyncio.Event()
    client = connect(world)
    client.send(client_frame(b'{"id":2,"publish":{"channel":"log:a","data":1}}'))
    assert client.transport.paused
    client.connection.shutdown()
    assert not client.transport.paused
    client.send(client_frame(b"", CLOSE))
    assert client.transport.closing
    world.publisher.gates[b"1"].set()
    await turns()
    assert not client.transport.paused


# Floods


@virtual_time
async def test_parsing_yields_to_the_others(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a slice its reading pauses until the next turn; nothing is lost and order is kept."""
    monkeypatch.setattr(websocket_module, "time", Clock(step=1))
    client = connect()
    numbers = list(range(2, 202))
    client.send(b"".join(client_frame(_command(n)) for n in numbers))
    first = _ids(client.frames())
    assert 0 < len(first) <= PIECE // 20
    assert client.transport.paused
    await turns(1)
    second = _ids(client.frames())
    assert 0 < len(second) <= PIECE // 20
    await turns(20)
    assert first + second + _ids(client.frames()) == numbers
    assert not client.transport.paused
    assert client.connection._parser is None


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(b""),
        client_frame(b"\n"),
        client_frame(b" \r\n"),
        client_frame(b"{}"),
        client_frame(b"", PONG),
    ],
    ids=repr,
)
@virtual_time
async def test_whatever_comes_counts(frame: bytes, connect: Connect) -> None:
    """As a command, though it asks for nothing: a flood of it is a flood."""
    client = connect(subscriptions=10, commands_burst=10, commands_per_second=1)
    client.send(frame * 9)  # and `connect`
    assert client.frames() == []
    client.send(frame)
    [(opcode, payload)] = client.frames()
    assert opcode == CLOSE
    assert int.from_bytes(payload[:2], "big") == 3509


@pytest.mark.parametrize("part", [b"", b"x"])
@virtual_time
async def test_fragments_count(part: bytes, connect: Connect) -> None:
    """Each of them, and none is kept that holds nothing."""
    client = connect(subscriptions=10, commands_burst=10, commands_per_second=1)
    client.send(client_frame(part, fin=False) + client_frame(part, CONT, fin=False) * 9)
    assert client.frames() == []
    assert bytes(client.connection._fragments or b"") == part * 10
    client.send(client_frame(part, CONT, fin=False))
    [(opcode, payload)] = client.frames()
    assert opcode == CLOSE
    assert int.from_bytes(payload[:2], "big") == 3509


@virtual_time
async def test_a_flood_of_pings_is_a_flood(connect: Connect) -> None:
    """Each counts as a command: 3509 beyond the burst."""
    client = connect(subscriptions=10, commands_burst=10, commands_per_second=1)
    client.send(client_frame(b"", PING) * 8)
    assert len(client.frames()) == 8
    client.send(client_frame(b"", PING) * 8)
    frames = client.frames()
    assert frames[-1][0] == CLOSE
    assert int.from_bytes(frames[-1][1][:2], "big") == 3509


@virtual_time
async def test_a_session_that_closes_in_the_middle_of_a_read(connect: Connect) -> None:
    """What follows in the same bytes is not done."""
    client = connect()
    client.send(client_frame(_command(2)) + client_frame(b"garbage") + client_frame(_command(3)))
    frames = client.frames()
    assert _ids(frames) == [2]
    assert int.from_bytes(frames[-1][1][:2], "big") == 3501
    assert len(frames) == 2


# Writing


@virtual_time
async def test_a_full_socket_blocks_the_outbox(connect: Connect) -> None:
    """Backlog waits in the outbox and follows, in order, when the client reads."""
    client = connect()
    outbox = client.session.outbox
    chunks = [bytes([65 + i % 26]) * 65_536 for i in range(40)]
    for chunk in chunks:
        outbox.send(chunk)
    await turns()
    assert outbox.blocked
    assert 0 < outbox.held < 40 * 65_536
    received = b""
    while len(received) < 40 * 65_536:
        received += client.transport.received()
        client.transport.flush()
    assert received == b"".join(chunks)
    assert not outbox.blocked


@virtual_time
async def test_the_close_goes_behind_what_the_socket_lacks(connect: Connect) -> None:
    """A frame that was begun is finished before the close frame."""
    client = connect()
    outbox = client.session.outbox
    while not outbox.blocked:
        outbox.send(client_frame(b"x" * 60_000))
        await turns(2)
    client.connection.shutdown()
    received = b""
    while client.transport.buffer:
        received += client.transport.received()
        client.transport.flush()
    received += client.transport.received()
    assert received.endswith(b"\x88\x0a\x0b\xb9shutdown")
    assert (len(received) - 12) % 60_008 == 0


@virtual_time
async def test_a_write_to_a_socket_that_is_gone(connect: Connect) -> None:
    """The connection ends; there is no exception."""
    client = connect()
    client.transport._theirs.close()
    client.session.outbox.send(b"x")
    client.session.outbox.flush()
    assert client.transport.aborted


# Ends and faults


@virtual_time
async def test_a_lost_connection_leaves_the_servers_set(connect: Connect) -> None:
    """And the count of connections; the session has ended."""
    client = connect()
    world_metrics = client.connection._context.metrics.registry
    assert world_metrics.get_sample_value("streamgate_connections", {"transport": "websocket"}) == 1
    client.connection.connection_lost(None)
    client.connection.connection_lost(None)
    assert client.connections == set()
    assert client.session.state is State.CLOSED
    assert world_metrics.get_sample_value("streamgate_connections", {"transport": "websocket"}) == 0


@virtual_time
async def test_a_fault_of_ours_is_a_close_and_one_log_record(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """3004: it ends this session and no other."""
    client = connect()

    def fail(session: Session, message: bytes) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Session, "receive", fail)
    with caplog.at_level(logging.ERROR):
        client.send(client_frame(_command(2)))
    (frame,) = client.frames()
    assert frame[0] == CLOSE
    assert int.from_bytes(frame[1][:2], "big") == 3004
    assert b"secret" not in frame[1]
    assert len(caplog.records) == 1


@virtual_time
async def test_early_bytes_are_parsed(connect: Connect) -> None:
    """What came before the handshake was answered is not lost."""
    client = connect(connected=False)
    client.connection.attached(client.connections, client_frame(_command(1, b"connect")))
    assert _ids(client.frames()) == [1]
