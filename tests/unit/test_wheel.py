"""session.wheel: deadlines come in time, once, and one session has one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.session import wheel as wheel_module
from service.session.wheel import TICK, Wheel
from tests.unit.fakes.clock import LoopTime, virtual_time


class _Timed:
    """Notes when its deadline came."""

    def __init__(self) -> None:
        self.due = 0
        self.at: list[float] = []
        self.then: Callable[[], None] = lambda: None

    def on_deadline(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        self.then()


@pytest.fixture(autouse=True)
def _loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_module, "time", LoopTime)


@virtual_time
async def test_a_deadline_is_late_by_a_tick_at_most_and_never_early() -> None:
    """Whatever the fraction of a tick at which it was set."""
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    for seconds in (0.0, 0.1, 1.0, 25.0):
        await asyncio.sleep(0.07)
        timed = _Timed()
        began = asyncio.get_running_loop().time()
        wheel.set(timed, seconds)
        await asyncio.sleep(seconds + 2 * TICK)
        assert len(timed.at) == 1
        assert seconds <= timed.at[0] - began <= seconds + 2 * TICK
        assert timed.due == 0
    turning.cancel()


@virtual_time
async def test_another_deadline_replaces_the_first() -> None:
    """There is one at a time, be it earlier or later."""
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    sooner, later = _Timed(), _Timed()
    wheel.set(sooner, 10)
    wheel.set(sooner, 1)
    wheel.set(later, 1)
    wheel.set(later, 10)
    await asyncio.sleep(5)
    assert (len(sooner.at), len(later.at)) == (1, 0)
    await asyncio.sleep(20)
    assert (len(sooner.at), len(later.at)) == (1, 1)
    turning.cancel()


@virtual_time
async def test_a_deadline_can_be_taken_back() -> None:
    """Also when there is none."""
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    timed = _Timed()
    wheel.clear(timed)
    wheel.set(timed, 1)
    wheel.clear(timed)
    assert timed.due == 0
    await asyncio.sleep(5)
    assert timed.at == []
    turning.cancel()


@virtual_time
async def test_deadlines_may_be_set_in_a_deadline() -> None:
    """A ping sets the deadline of its pong; another session's may be taken back."""
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    one, other = _Timed(), _Timed()

    def again() -> None:
        if len(one.at) < 3:
            wheel.set(one, 1)

    one.then = again
    other.then = again
    wheel.set(one, 1)
    wheel.set(other, 1)
    await asyncio.sleep(10)
    assert len(one.at) == 3
    assert len(other.at) == 1
    turning.cancel()


@virtual_time
async def test_a_session_that_ends_in_anothers_deadline_is_not_called() -> None:
    """What is cleared in the same tick is cleared."""
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    one, other = _Timed(), _Timed()
    one.then = lambda: wheel.clear(other)
    other.then = lambda: wheel.clear(one)
    wheel.set(one, 1)
    wheel.set(other, 1)
    await asyncio.sleep(5)
    assert len(one.at) + len(other.at) == 1
    turning.cancel()


@virtual_time
async def test_many_deadlines_yield_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand pings are no reason to stall."""
    monkeypatch.setattr(wheel_module, "SLICE", -1.0)  # each takes longer than a slice
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    due = [_Timed() for _ in range(50)]
    for timed in due:
        wheel.set(timed, 1)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not all(timed.at for timed in due):
            asyncio.get_running_loop().call_soon(turn)

    def first() -> None:
        if sum(len(timed.at) for timed in due) == 1:
            turn()

    for timed in due:
        timed.then = first
    await asyncio.sleep(5)
    assert all(timed.at for timed in due)
    assert turns >= 40
    turning.cancel()


@virtual_time
async def test_a_deadline_that_moves_while_the_wheel_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pong that comes between two slices of a tick counts: the old deadline does not come any more."""
    monkeypatch.setattr(wheel_module, "SLICE", -1.0)
    wheel = Wheel()
    turning = asyncio.create_task(wheel.run())
    timed = [_Timed() for _ in range(10)]
    loop = asyncio.get_running_loop()

    def move_the_others() -> None:
        for each in timed:
            each.then = lambda: None
            if not each.at:
                wheel.set(each, 10)

    def in_the_next_turn() -> None:
        loop.call_soon(move_the_others)

    for each in timed:
        each.then = in_the_next_turn
        wheel.set(each, 1)
    began = loop.time()
    await asyncio.sleep(30)
    assert [len(each.at) for each in timed] == [1] * 10
    assert sum(each.at[0] - began > 9 for each in timed) >= 8
    turning.cancel()


@virtual_time
async def test_a_stalled_loop_catches_up() -> None:
    """Deadlines that passed while nothing ran come when it runs again."""
    wheel = Wheel()
    timed = [_Timed() for _ in range(3)]
    for seconds, each in enumerate(timed):
        wheel.set(each, seconds)
    await asyncio.sleep(60)  # nobody turns it
    turning = asyncio.create_task(wheel.run())
    await asyncio.sleep(2 * TICK)
    assert [len(each.at) for each in timed] == [1, 1, 1]
    turning.cancel()
