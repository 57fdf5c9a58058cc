"""hub.outbox: first in, first out; what is held is counted to the byte; nothing goes out after the end."""

from __future__ import annotations

import pytest

from service.hub.flusher import IDLE, Flusher
from service.hub.outbox import PIECE
from tests.unit.fakes.clock import turns
from tests.unit.fakes.fanout import FakeSocket, actually_held


async def test_order_is_first_in_first_out() -> None:
    """Replies and publications leave in the order in which they came."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.send(b"a")
    sock.outbox.pending.append(b"b")
    sock.outbox.send(b"c")
    await turns()
    assert sock.written == b"abc"


async def test_send_waits_for_the_end_of_the_callers_turn() -> None:
    """What is sent in one turn leaves in one write."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.send(b"a")
    sock.outbox.send(b"b")
    assert sock.writes == []
    await turns()
    assert sock.writes == [b"ab"]
    assert sock.outbox.due == IDLE


async def test_large_output_leaves_in_pieces() -> None:
    """What one write holds is bounded by a piece, whatever the size of a chunk."""
    sock = FakeSocket(Flusher(10**9))
    chunks = [bytes([i]) * 20_000 for i in range(20)]
    chunks.append(b"x" * (3 * PIECE + 5))
    sock.outbox.pending.extend(chunks)
    sock.outbox.flush()
    assert sock.written == b"".join(chunks)
    assert all(len(data) < PIECE + 20_000 for data in sock.writes)


@pytest.mark.parametrize("how", ["reply", "conflated", "put"])
async def test_what_is_left_of_a_large_chunk_counts(how: str) -> None:
    """It waits in the outbox, in its place, and is shared with whoever has the chunk, too."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher, room=PIECE)
    large = b"x" * (5 * PIECE)
    if how == "reply":
        sock.outbox.send(large)
    elif how == "conflated":
        sock.outbox.conflated = {"a": large}
    if how == "put":
        sock.outbox.put_rest(large)
    else:
        sock.outbox.flush()
    assert sock.written == b"x" * PIECE
    assert sock.outbox.held == flusher.held == 4 * PIECE == actually_held(sock.outbox)
    rest = sock.outbox.pending[0]
    assert isinstance(rest, memoryview)
    assert rest.obj is large
    sock.outbox.send(b"next")
    sock.open(PIECE)
    assert sock.outbox.held == flusher.held == 3 * PIECE + 4
    sock.open()
    assert sock.written == large + b"next"
    assert flusher.held == 0


@pytest.mark.parametrize("how", ["close", "limit", "total"])
async def test_what_has_been_begun_is_ended(how: str) -> None:
    """The end of a session cuts no frame: a close frame follows. What comes after it is dropped."""
    flusher = Flusher(2 * PIECE if how == "total" else 10**9)
    sock = FakeSocket(flusher, room=PIECE, limit=4 * PIECE + 3)
    large = b"x" * (5 * PIECE)
    sock.outbox.pending += [large, b"next"] if how != "limit" else [large]
    sock.outbox.flush()
    if how == "close":
        sock.outbox.close()
    elif how == "limit":
        sock.outbox.hold(b"next")
    assert sock.outbox.closed
    assert sock.written == large
    assert sock.outbox.pending == []
    assert sock.outbox.held == flusher.held == 0
    sock.outbox.close()
    assert sock.written == large


async def test_large_conflated_values_keep_their_order() -> None:
    """One is written to its end before the next begins."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    for channel in b"abc":
        sock.outbox.conflate(chr(channel), bytes([channel]) * (2 * PIECE))
    sock.open()
    assert sock.written == b"".join(bytes([channel]) * (2 * PIECE) for channel in b"abc")


async def test_what_has_not_been_begun_is_dropped() -> None:
    """With the end of the session."""
    sock = FakeSocket(Flusher(10**9), room=5 * PIECE)
    sock.outbox.pending += [b"x" * (5 * PIECE), b"y" * PIECE, b"z"]
    sock.outbox.flush()
    sock.outbox.close()
    assert sock.written == b"x" * (5 * PIECE)


async def test_writing_stops_when_the_socket_is_full() -> None:
    """What is left stays, is counted, and follows when there is room."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher, room=PIECE)
    chunks = [bytes([i]) * 20_000 for i in range(10)]
    sock.outbox.pending.extend(chunks)
    sock.outbox.flush()
    assert len(sock.writes) == 1
    assert sock.outbox.held == flusher.held == 200_000 - len(sock.written)
    sock.open()
    assert sock.written == b"".join(chunks)
    assert sock.outbox.held == flusher.held == 0
    assert not flusher.blocked


async def test_held_is_exact_through_everything() -> None:
    """While blocked, `held` is the bytes in hand, whatever is held, conflated, discarded or left."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    outbox = sock.outbox

    def check() -> None:
        assert outbox.held == actually_held(outbox) == flusher.held

    outbox.pending.append(b"12345")
    outbox.block()
    check()
    assert outbox.held == 5
    outbox.block()  # a second time says nothing new
    check()
    outbox.hold(b"123")
    outbox.send(b"4")
    check()
    assert not outbox.conflate("a", b"1234567")
    check()
    assert outbox.conflate("a", b"12")
    check()
    outbox.conflate("b", b"1")
    outbox.discard("a")
    outbox.discard("a")
    outbox.discard("never")
    check()
    assert outbox.held == 10
    sock.open()
    check()
    assert outbox.held == 0
    assert sock.written == b"1234512341"


@pytest.mark.parametrize("room", [1, 70_000])
async def test_held_is_exact_when_conflated_output_fills_the_socket(room: int) -> None:
    """The socket may fill up again with some, or all, of the conflated values still to go."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    outbox = sock.outbox
    outbox.block()
    outbox.hold(b"held")
    for name in "abc":
        outbox.conflate(name, name.encode() * 60_000)
    sock.open(room)
    assert outbox.blocked
    assert outbox.held == flusher.held == actually_held(outbox) > 0
    outbox.conflate("c", b"c")
    assert outbox.held == flusher.held == actually_held(outbox) > 0
    outbox.discard("c")
    assert outbox.held == flusher.held == actually_held(outbox)
    outbox.close()
    assert outbox.held == flusher.held == 0


async def test_conflation_keeps_the_newest() -> None:
    """One chunk a channel, and the channel that has waited longest since its last value goes first."""
    sock = FakeSocket(Flusher(10**9))
    outbox = sock.outbox
    outbox.block()
    assert [outbox.conflate(*pair) for pair in [("a", b"a1"), ("b", b"b1"), ("a", b"a2")]] == [
        False,
        False,
        True,
    ]
    sock.open()
    assert sock.written == b"b1a2"


async def test_replies_go_before_conflated_values() -> None:
    """A value may be replaced until it leaves; an answer may not wait for that."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    sock.outbox.conflate("a", b"value")
    sock.outbox.send(b"reply")
    sock.open()
    assert sock.written == b"replyvalue"


async def test_beyond_the_limit_the_session_is_slow() -> None:
    """Up to the limit all is kept; with the next byte everything is dropped and the owner told, once."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher, limit=10)
    sock.outbox.block()
    sock.outbox.hold(b"12345")
    sock.outbox.hold(b"67890")
    assert sock.owner.reasons == []
    sock.outbox.hold(b"1")
    assert sock.owner.reasons == ["outbox"]
    assert sock.outbox.closed
    assert flusher.held == 0
    sock.outbox.hold(b"1")
    assert sock.owner.reasons == ["outbox"]
    sock.open()
    assert sock.written == b""


async def test_conflated_values_count_towards_the_limit() -> None:
    """A session of many channels is bounded too."""
    sock = FakeSocket(Flusher(10**9), limit=10)
    sock.outbox.block()
    sock.outbox.conflate("a", b"123456")
    sock.outbox.conflate("a", b"654321")
    assert sock.owner.reasons == []
    sock.outbox.conflate("b", b"12345")
    assert sock.owner.reasons == ["outbox"]


async def test_nothing_goes_out_after_close() -> None:
    """Not what was pending, not what comes, not when the socket has room again."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    outbox = sock.outbox
    outbox.send(b"pending")
    outbox.close()
    outbox.send(b"reply")
    outbox.hold(b"held")
    assert not outbox.conflate("a", b"value")
    sock.open()
    await turns()
    assert sock.writes == []
    assert outbox.held == flusher.held == 0


async def test_a_closed_outbox_stays_closed_to_the_fan_out() -> None:
    """The fan-out looks at `blocked` alone, so room in the socket must not reopen what is closed."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    sock.outbox.close()
    sock.open()
    assert sock.outbox.blocked


async def test_a_blocked_outbox_that_closes_is_counted_no_more() -> None:
    """Its bytes and its place among the blocked are given back."""
    flusher = Flusher(10**9)
    sock, other = FakeSocket(flusher), FakeSocket(flusher)
    for each in (sock, other):
        each.outbox.block()
        each.outbox.hold(b"12345")
    sock.outbox.close()
    assert flusher.held == 5
    assert flusher.blocked == {other.outbox}
    sock.outbox.close()
    assert flusher.held == 5


async def test_a_write_may_end_the_session() -> None:
    """Giving up in the middle of a flush leaves nothing behind, and nothing more is written."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    write = sock.outbox.write

    def write_and_close(data: bytes) -> None:
        write(data)
        sock.outbox.close()

    sock.outbox.write = write_and_close
    sock.outbox.pending.extend([b"x" * PIECE, b"y" * PIECE])
    sock.outbox.flush()
    assert sock.writes == [b"x" * PIECE]
    assert flusher.held == 0
