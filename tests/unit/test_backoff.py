"""streams.backoff: waits grow, are spread, and stay below the ceiling."""

import random

import pytest

from service.streams.backoff import CEILING, FIRST, Backoff


def test_the_bound_doubles_up_to_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is drawn from a tenth of the bound up to it."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    backoff = Backoff()
    waits = [backoff.next() for _ in range(8)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, CEILING, CEILING])
    assert all(low == pytest.approx(high / 10) for low, high in drawn)


def test_reset_begins_anew() -> None:
    """After a success the first wait is short again."""
    backoff = Backoff()
    for _ in range(10):
        backoff.next()
    backoff.reset()
    assert FIRST / 10 <= backoff.next() <= FIRST


def test_waits_are_never_nothing() -> None:
    """A node that cannot connect does not spin."""
    backoff = Backoff()
    assert all(FIRST / 10 <= backoff.next() <= CEILING for _ in range(200))


def test_waits_are_spread() -> None:
    """Nodes that lost Redis at one time do not come back at one time."""
    assert len({Backoff().next() for _ in range(20)}) > 1
