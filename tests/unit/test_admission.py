"""session.admission: who is taken at once, who waits for a turn, who is told to come again, and when."""

from __future__ import annotations

import asyncio

from service.metrics import Metrics
from service.sections import Limits
from service.session.admission import FULL_RETRY, LONGEST_RETRY, MAX_WAITING, PATIENCE, Admission
from tests.unit.fakes.clock import Clock


def _admission(clock: Clock, **limits: float) -> Admission:
    return Admission(Limits(**limits), Metrics(), clock)


async def _nothing() -> None:
    """Let what was scheduled have its turn."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_full_node() -> None:
    """It refuses, however few come."""
    admission = _admission(Clock(), connections=2)
    assert admission.admit(2) is None
    refusal = admission.admit(3)
    assert refusal is not None
    assert refusal.retry_after == FULL_RETRY


def test_who_comes_too_fast_is_told_when_there_is_room() -> None:
    """One after the other, at the configured rate; and not later than a minute."""
    clock = Clock()
    admission = _admission(clock, connects_per_second=8, connects_burst=3)
    assert [admission.admit(1) for _ in range(3)] == [None, None, None]
    told = [refusal.retry_after for _ in range(25) if (refusal := admission.admit(1)) is not None]
    assert told == [1] * 8 + [2] * 8 + [3] * 8 + [4]
    for _ in range(2000):
        refusal = admission.admit(1)
    assert refusal is not None
    assert refusal.retry_after == LONGEST_RETRY
    clock.now += 0.25
    assert [admission.admit(1) is None for _ in range(3)] == [True, True, False]


async def test_those_admitted_begin_in_order() -> None:
    """In a turn of their own; one that fails does not keep the next from it."""
    begun: list[int] = []

    def fail() -> None:
        raise RuntimeError("on purpose")

    admission = _admission(Clock())
    admission.enter(lambda: begun.append(1))
    admission.enter(fail)
    admission.enter(lambda: begun.append(2))
    assert begun == []
    await _nothing()
    assert begun == [1, 2]


async def test_unanswered_clients_are_bounded_for_a_while() -> None:
    """Nobody more is admitted than can be answered soon; clients that say nothing do not count for long."""
    clock = Clock()
    admission = _admission(clock, connects_per_second=0)
    for _ in range(MAX_WAITING):
        assert admission.admit(1) is None
        admission.enter(lambda: None)
    await _nothing()
    assert admission.admit(1) is not None
    admission.answered()
    assert admission.admit(1) is None
    admission.enter(lambda: None)
    await _nothing()
    assert admission.admit(1) is not None
    clock.now += PATIENCE + 0.1
    assert admission.admit(1) is None
