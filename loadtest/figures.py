"""Figures and their targets, and how repetitions of a measurement become one figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What a figure should reach."""

    limit: float
    sense: Literal["≤", "≥"] = "≤"

    def reached_by(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value <= self.limit if self.sense == "≤" else value >= self.limit


@dataclass(frozen=True)
class Figure:
    """One measured number.

    `note` says what it was made of, for people.
    """

    name: str
    value: float
    unit: str = ""
    target: Target | None = None
    note: str = ""
    runs: list[float] = field(default_factory=list)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        return None if self.target is None else self.target.reached_by(self.value)

    def text(self, value: float | None = None) -> str:
        """A value of this figure with its unit, with three digits that matter."""
        number = self.value if value is None else value
        digits = f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
        return f"{digits} {self.unit}".rstrip()


def median(repetitions: Iterable[list[Figure]]) -> list[Figure]:
    """One figure for each name: the repetition with the median value, its note with it.

    Of an even number the worse of the two in the middle, so that value and note belong together.
    """
    by_name: dict[str, list[Figure]] = {}
    for figures in repetitions:
        for figure in figures:
            by_name.setdefault(figure.name, []).append(figure)
    merged = []
    for same in by_name.values():
        values = [figure.value for figure in same]
        lower_is_worse = same[0].target is not None and same[0].target.sense == "≥"
        middle = statistics.median_low(values) if lower_is_worse else statistics.median_high(values)
        chosen = same[values.index(middle)]
        merged.append(Figure(chosen.name, middle, chosen.unit, chosen.target, chosen.note, values))
    return merged
