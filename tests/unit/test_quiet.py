"""streams.quiet: the same complaint is heard once in a while, however many subjects there are."""

import pytest

from service.streams import quiet
from service.streams.quiet import OncePer
from tests.unit.fakes.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quiet, "time", clock)
    return clock


def test_a_subject_is_allowed_once_in_the_period(clock: Clock) -> None:
    """Not before the period is over, and then again once."""
    once = OncePer(60)
    assert once.allows("a")
    clock.now += 59.9
    assert not once.allows("a")
    clock.now += 0.1
    assert once.allows("a")
    assert not once.allows("a")


def test_a_refusal_does_not_prolong_the_wait(clock: Clock) -> None:
    """A complaint that never stops is still heard once in each period."""
    once = OncePer(60)
    heard = 0
    for _ in range(600):
        heard += once.allows("a")
        clock.now += 1
    assert heard == 10


def test_subjects_do_not_silence_each_other(clock: Clock) -> None:
    """Each has a period of its own."""
    once = OncePer(60)
    assert once.allows("a")
    assert once.allows("b")


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest subject is forgotten, and may be heard early."""
    monkeypatch.setattr(quiet, "MAX_SUBJECTS", 3)
    once = OncePer(60)
    assert all(once.allows(s) for s in "abcd")
    assert not once.allows("b")
    assert once.allows("a")
