"""identity.answers: answers are kept for a while, within a bound."""

from __future__ import annotations

from service.identity.answers import MAX_BYTES, Answers
from tests.unit.fakes.clock import Clock


def test_an_answer_is_good_for_a_while() -> None:
    """A new one begins a new while."""
    clock = Clock()
    answers: Answers[str] = Answers(10, clock)
    answers.put(b"q", "a", 1)
    clock.now += 9
    assert answers.get(b"q") == "a"
    answers.put(b"q", "b", 1)
    clock.now += 9
    assert answers.get(b"q") == "b"
    clock.now += 1
    assert answers.get(b"q") is None
    assert answers.get(b"another") is None


def test_nothing_is_kept_for_no_time() -> None:
    """Zero seconds: off."""
    answers: Answers[str] = Answers(0, Clock())
    answers.put(b"q", "a", 1)
    assert answers.get(b"q") is None


def test_the_longest_unused_go_first() -> None:
    """Where all together are larger than the bound; those that are replaced or gone do not count."""
    clock = Clock()
    answers: Answers[int] = Answers(10, clock)
    third = MAX_BYTES // 3 - 1000
    for _ in range(5):
        for question in (b"1", b"2", b"3"):
            answers.put(question, 0, third)
    clock.now += 10
    assert [answers.get(question) for question in (b"1", b"2", b"3")] == [None] * 3
    for question in (b"1", b"2", b"3"):
        answers.put(question, 1, third)
    assert answers.get(b"1") == 1
    answers.put(b"4", 1, third)
    assert [answers.get(question) for question in (b"1", b"2", b"3", b"4")] == [1, None, 1, 1]
    answers.put(b"huge", 1, MAX_BYTES + 1)
    assert [answers.get(question) for question in (b"1", b"3", b"4", b"huge")] == [None] * 4


def test_small_answers_have_a_bound_too() -> None:
    """Each takes more than its own bytes."""
    answers: Answers[int] = Answers(10, Clock())
    for number in range(20_000):
        answers.put(str(number).encode(), number, 0)
    assert sum(answers.get(str(number).encode()) is not None for number in range(20_000)) == MAX_BYTES // 500
