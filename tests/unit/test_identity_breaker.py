"""identity.breaker: a server in trouble is left alone for a while, then asked by one; retries are few."""

from __future__ import annotations

import pytest

from service.identity.breaker import MAX_RETRIES, Breaker, RetryBudget
from tests.unit.fakes.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


def _opened(clock: Clock) -> Breaker:
    breaker = Breaker(3, 5, clock)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row(clock: Clock) -> None:
    """A success in between begins a new row."""
    breaker = Breaker(3, 5, clock)
    for _ in range(5):
        assert breaker.admits()
        assert not breaker.failed()
        assert not breaker.failed()
        breaker.succeeded()
    assert not _opened(clock).admits()


def test_one_probe_decides(clock: Clock) -> None:
    """Its failure keeps all others away for as long again, its success lets them in."""
    breaker = _opened(clock)
    clock.now += 4.9
    assert not breaker.admits()
    clock.now += 0.1
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    assert breaker.failed()
    assert not breaker.admits()
    clock.now += 5
    assert breaker.admits()
    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True, True, True]
    assert not breaker.failed()


def test_an_abandoned_probe_makes_room_for_another(clock: Clock) -> None:
    """Its client went away; the server must not stay unasked for ever."""
    breaker = _opened(clock)
    clock.now += 5
    assert breaker.admits()
    breaker.abandoned()
    assert [breaker.admits(), breaker.admits()] == [True, False]


def test_latecomers_do_not_keep_it_open(clock: Clock) -> None:
    """Those who had asked before it opened fail afterwards."""
    breaker = _opened(clock)
    clock.now += 4
    assert not breaker.failed()
    clock.now += 1
    assert breaker.admits()


def test_when_to_come_back(clock: Clock) -> None:
    """When it may be asked again, and spread over as long again."""
    breaker = _opened(clock)
    clock.now += 2
    waits = [breaker.retry_after() for _ in range(200)]
    assert 3 <= min(waits) < 4
    assert 7 < max(waits) <= 8


def test_retries_are_a_fifth_of_the_questions() -> None:
    """After those that were saved up."""
    budget = RetryBudget()
    assert [budget.retry() for _ in range(int(MAX_RETRIES) + 1)] == [True] * int(MAX_RETRIES) + [False]
    granted = 0
    for _ in range(1000):
        budget.first_try()
        granted += budget.retry()
    assert 195 <= granted <= 200
    for _ in range(1000):
        budget.first_try()
    assert [budget.retry() for _ in range(11)].count(True) == MAX_RETRIES
