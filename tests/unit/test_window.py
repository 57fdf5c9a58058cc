"""hub.window: what a window holds follows on `start` without a gap, and all windows share one bound."""

from __future__ import annotations

import pytest

from service.hub.window import OVERHEAD, Window, WindowBudget
from tests.unit.fakes.fanout import publication


def _window(*numbers: int, size: int = 100, budget: WindowBudget | None = None, start: int = 0) -> Window:
    window = Window(budget or WindowBudget(10**6), size, (start, 0))
    if numbers:
        window.extend([publication(n) for n in numbers])
    return window


def _cost(*numbers: int) -> int:
    return sum(len(publication(n).json) + OVERHEAD for n in numbers)


def _after(window: Window, number: int) -> list[int] | None:
    found = window.after((number, 0))
    return None if found is None else [p.id[0] for p in found]


@pytest.mark.parametrize(
    ("position", "expected"),
    [(4, None), (5, [7, 8, 10]), (6, [7, 8, 10]), (7, [8, 10]), (9, [10]), (10, []), (11, [])],
)
def test_after(position: int, expected: list[int] | None) -> None:
    """All publications after a position, in order; None where the window does not reach back."""
    assert _after(_window(7, 8, 10, start=5), position) == expected


@pytest.mark.parametrize(
    ("position", "known"), [(4, False), (5, True), (6, False), (7, True), (9, False), (10, True), (11, False)]
)
def test_knows_only_what_it_has_seen(position: int, *, known: bool) -> None:
    """A position within reach that is neither the start nor an entry may be of another life of the stream."""
    assert _window(7, 8, 10, start=5).knows((position, 0)) is known


def test_beyond_its_size_the_first_go() -> None:
    """start moves on to the last that went, which still can be recovered from."""
    window = _window(1, 2, 3, 4, 5, size=3)
    assert len(window) == 3
    assert window.start == (2, 0)
    assert _after(window, 2) == [3, 4, 5]
    assert _after(window, 1) is None
    assert window.bytes == _cost(3, 4, 5)


def test_a_window_may_be_off() -> None:
    """With size 0 it knows the cursor and nothing else."""
    budget = WindowBudget(10**6)
    window = _window(1, 2, size=0, budget=budget)
    assert len(window) == 0
    assert window.start == (2, 0)
    assert window.newest is None
    assert _after(window, 2) == []
    assert _after(window, 1) is None
    assert budget.bytes == 0


def test_a_batch_larger_than_the_window() -> None:
    """Only its end is kept."""
    assert _after(_window(*range(1, 501), size=2), 498) == [499, 500]


def test_newest() -> None:
    """The last publication, if it is there."""
    assert _window().newest is None
    newest = _window(1, 2).newest
    assert newest is not None
    assert newest.id == (2, 0)


def test_clear_begins_anew() -> None:
    """After a gap nothing from before is handed out."""
    budget = WindowBudget(10**6)
    window = _window(1, 2, budget=budget)
    window.clear((9, 0))
    assert (window.start, len(window), window.bytes, budget.bytes) == ((9, 0), 0, 0, 0)
    assert _after(window, 1) is None


def test_the_budget_counts_every_byte() -> None:
    """Its figure is the sum of all windows, whatever came and went."""
    budget = WindowBudget(10**6)
    one = _window(1, 2, 3, size=2, budget=budget)
    other = _window(1, budget=budget)
    assert budget.bytes == one.bytes + other.bytes == _cost(2, 3) + _cost(1)
    one.close()
    assert budget.bytes == other.bytes
    other.close()
    assert budget.bytes == 0


def test_the_quietest_window_makes_room() -> None:
    """The one that has not grown for longest is emptied, and still knows where it stands."""
    budget = WindowBudget(_cost(1) * 4)
    first, second = _window(1, budget=budget), _window(1, budget=budget)
    first.extend([publication(2)])
    third = _window(1, 2, budget=budget)
    assert len(second) == 0
    assert second.start == (1, 0)
    assert _after(second, 0) is None
    assert _after(second, 1) == []
    assert _after(first, 0) == [1, 2]
    assert len(third) == 2
    assert budget.bytes == first.bytes + third.bytes


def test_one_window_may_not_exceed_the_budget_either() -> None:
    """Larger than everything, it is emptied itself."""
    budget = WindowBudget(100)
    window = _window(1, budget=budget)
    assert len(window) == 0
    assert window.start == (1, 0)
    assert budget.bytes == 0


def test_an_emptied_window_takes_part_again() -> None:
    """What grows after an eviction is counted and can be evicted again."""
    budget = WindowBudget(_cost(1) * 2)
    window = _window(1, 2, 3, budget=budget)
    assert len(window) == 0
    window.extend([publication(4)])
    assert _after(window, 3) == [4]
    _window(1, 2, budget=budget)
    assert len(window) == 0
    assert budget.bytes <= _cost(1) * 2


def test_a_closed_window_is_forgotten() -> None:
    """It is not emptied in the place of one that lives."""
    budget = WindowBudget(_cost(1) * 2)
    _window(1, budget=budget).close()
    survivor = _window(1, budget=budget)
    _window(1, budget=budget)
    assert len(survivor) == 1


def test_reaching_back() -> None:
    """What came before the window is put before it, once; what it has already is not."""
    budget = WindowBudget(10**6)
    window = _window(7, 8, start=5, budget=budget)
    window.reach_back((2, 0), [publication(n) for n in (3, 5, 7, 8, 9)])
    assert _after(window, 2) == [3, 5, 7, 8]
    assert window.knows((2, 0))
    assert not window.knows((4, 0))
    assert window.bytes == budget.bytes == _cost(3, 5, 7, 8)
    window.reach_back((2, 0), [publication(n) for n in (3, 5, 7, 8)])
    assert _after(window, 2) == [3, 5, 7, 8]


def test_reaching_back_further_than_the_size_allows() -> None:
    """Then the window stays as it is: what is new counts more."""
    window = _window(7, 8, start=5, size=3)
    window.reach_back((2, 0), [publication(n) for n in (3, 5, 7, 8)])
    assert (_after(window, 5), _after(window, 2)) == ([7, 8], None)


def test_taking_back() -> None:
    """What was deleted is not replayed; what was beside it is."""
    budget = WindowBudget(10**6)
    window = _window(6, 7, 8, start=5, budget=budget)
    window.take_back(frozenset([(7, 0), (1, 0)]))
    assert _after(window, 5) == [6, 8]
    assert window.bytes == budget.bytes == _cost(6, 8)
