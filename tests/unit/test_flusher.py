"""hub.flusher: pending output leaves in slices, in order, and what all sessions hold is bounded."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service.hub import flusher as flusher_module
from service.hub.flusher import IDLE, MAX_BACKLOG, NOW, SLICE, STRIDE, Flusher
from tests.unit.fakes.clock import Clock, turns, virtual_time
from tests.unit.fakes.fanout import FakeSocket


def _pending(flusher: Flusher, *socks: FakeSocket, chunk: bytes = b"x") -> None:
    """What the fan-out does."""
    for sock in socks:
        sock.outbox.pending.append(chunk)
        if sock.outbox.due != NOW:
            sock.outbox.due = NOW
            flusher.now.append(sock.outbox)


def _gathering(flusher: Flusher, sock: FakeSocket, interval_ms: int, chunk: bytes) -> None:
    """The same in a namespace with an interval."""
    sock.outbox.pending.append(chunk)
    if interval_ms < sock.outbox.due:
        sock.outbox.due = interval_ms
        flusher.later(interval_ms).outboxes.append(sock.outbox)


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """With each look at the clock a slice is over."""
    clock = Clock(step=SLICE)
    monkeypatch.setattr(flusher_module, "time", clock)
    return clock


async def test_run_flushes_at_once() -> None:
    """A batch of few leaves in the turn that brought it."""
    flusher = Flusher(10**9)
    socks = [FakeSocket(flusher) for _ in range(3)]
    _pending(flusher, *socks)
    flusher.run()
    assert [s.written for s in socks] == [b"x"] * 3
    assert not flusher.now


async def test_slices_yield_to_the_loop(slow_clock: Clock) -> None:
    """After a slice the others get their turn; then it goes on where it was."""
    flusher = Flusher(10**9)
    socks = [FakeSocket(flusher) for _ in range(3 * STRIDE)]
    _pending(flusher, *socks)

    def written() -> int:
        return sum(1 for sock in socks if sock.writes)

    flusher.run()
    assert written() == STRIDE
    assert flusher.now
    flusher.run()  # does not jump the queue
    assert written() == STRIDE
    order: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: order.append(written()))
    await turns()
    assert order[0] in (STRIDE, 2 * STRIDE)  # it ran in between
    assert written() == 3 * STRIDE
    assert not flusher.now


async def test_what_comes_between_slices_waits_its_turn(slow_clock: Clock) -> None:
    """An outbox that is touched again meanwhile is flushed once, in order."""
    flusher = Flusher(10**9)
    socks = [FakeSocket(flusher) for _ in range(2 * STRIDE)]
    _pending(flusher, *socks, chunk=b"1")
    flusher.run()
    _pending(flusher, *socks, chunk=b"2")
    flusher.run()
    await turns(10)
    assert [s.written for s in socks] == [b"12"] * (2 * STRIDE)


@virtual_time
async def test_later_waits_for_the_end_of_the_interval() -> None:
    """Output gathers, and leaves in one write."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    for chunk in (b"a", b"b"):
        _gathering(flusher, sock, 50, chunk)
        flusher.run()
        await asyncio.sleep(0.02)
    assert sock.writes == []
    await asyncio.sleep(0.02)
    assert sock.writes == [b"ab"]
    assert sock.outbox.due == IDLE


@virtual_time
async def test_what_is_urgent_takes_along_what_waits() -> None:
    """A reply does not overtake publications that an interval holds back; nothing leaves twice."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    _gathering(flusher, sock, 50, b"publication ")
    sock.outbox.send(b"reply")
    await asyncio.sleep(0.001)
    assert sock.writes == [b"publication reply"]
    await asyncio.sleep(0.1)
    assert len(sock.writes) == 1


@virtual_time
async def test_the_shortest_interval_counts() -> None:
    """Output of two intervals leaves at the end of the shorter, once, in order; whichever came first."""
    for intervals in ((50, 10), (10, 50)):
        flusher = Flusher(10**9)
        sock = FakeSocket(flusher)
        for interval in intervals:
            _gathering(flusher, sock, interval, b"%d " % interval)
        await asyncio.sleep(0.02)
        assert sock.writes == [b"%d %d " % intervals]
        _gathering(flusher, sock, 50, b"again")
        await asyncio.sleep(0.2)
        assert sock.writes[1:] == [b"again"]


async def test_one_sessions_failure_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is one log record, and the end of that session."""
    flusher = Flusher(10**9)
    first, broken, last = (FakeSocket(flusher) for _ in range(3))

    def fail(data: bytes) -> None:
        raise RuntimeError("no")

    broken.outbox.write = fail
    _pending(flusher, first, broken, last)
    with caplog.at_level(logging.ERROR):
        flusher.run()
    assert first.written == last.written == b"x"
    assert broken.owner.reasons == ["error"]
    assert broken.outbox.closed
    assert len(caplog.records) == 1


async def test_drained_waits_for_the_backlog(slow_clock: Clock) -> None:
    """While too much waits to be written the tail does not read on."""
    flusher = Flusher(10**9)
    await asyncio.wait_for(flusher.drained(), 1)
    socks = [FakeSocket(flusher) for _ in range(3 * STRIDE)]
    _pending(flusher, *socks)
    flusher.backlog += MAX_BACKLOG + 1
    flusher.run()
    waiting = asyncio.create_task(flusher.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    assert flusher.backlog == 0
    assert all(sock.writes for sock in socks)


async def test_a_blocked_session_is_no_backlog() -> None:
    """The slow never slow the tail: what they hold is not waited for."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher, room=1)
    _pending(flusher, sock, chunk=b"xx")
    flusher.backlog += MAX_BACKLOG + 1
    flusher.run()
    assert sock.outbox.blocked
    sock.outbox.hold(b"x" * 1000)
    await asyncio.wait_for(flusher.drained(), 1)


async def test_over_the_total_the_largest_is_given_up() -> None:
    """Down to nine tenths; the small ones stay."""
    flusher = Flusher(held_limit=1000)
    socks = [FakeSocket(flusher) for _ in range(4)]
    for sock, size in zip(socks, (100, 400, 300, 200), strict=True):
        sock.outbox.block()
        sock.outbox.hold(b"x" * size)
    assert [s.owner.reasons for s in socks] == [[], [], [], []]
    socks[0].outbox.hold(b"x")
    assert [s.owner.reasons for s in socks] == [[], ["total"], [], []]
    assert flusher.held == 601


async def test_as_many_are_given_up_as_needed() -> None:
    """One is not enough where all are alike."""
    flusher = Flusher(held_limit=1000)
    socks = [FakeSocket(flusher) for _ in range(20)]
    for sock in socks:
        sock.outbox.block()
        sock.outbox.hold(b"x" * 50)
    last = FakeSocket(flusher)
    last.outbox.block()
    last.outbox.hold(b"x" * 50)
    assert flusher.held == 900
    assert sum(len(s.owner.reasons) for s in [*socks, last]) == 3
