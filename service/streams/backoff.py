"""Waiting before the next try to reach Redis."""

from __future__ import annotations

import random

#: Seconds before the first new try, at most.
FIRST = 0.1

#: Seconds that a wait never exceeds.
CEILING = 5.0


class Backoff:
    """Full jitter under a ceiling that doubles from `FIRST` to `CEILING`."""

    __slots__ = ("_bound",)

    def __init__(self) -> None:
        self._bound = FIRST

    def reset(self) -> None:
        """After a success."""
        self._bound = FIRST

    def next(self) -> float:
        """Seconds to wait now."""
        bound, self._bound = self._bound, min(self._bound * 2, CEILING)
        return random.uniform(bound / 10, bound)
