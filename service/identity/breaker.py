"""Sparing a server that is in trouble: not asked for a while, and not asked twice by everybody."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Retries for each first try, in the long run.
RETRY_SHARE = 0.2

#: Retries that can be saved up.
MAX_RETRIES = 10.0


class Breaker:
    """After some failures in a row nobody asks for a while; then one does, and its outcome decides.

    Whoever is admitted reports `succeeded`, `failed` or `abandoned`.

    Args:
        failures: in a row.
        seconds: for which nobody asks.
        clock: seconds, monotonic.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float]) -> None:
        self._failures = failures
        self._seconds = seconds
        self._clock = clock
        self._row = 0
        self._open_until: float | None = None
        self._probing = False

    def admits(self) -> bool:
        """Whether to ask now."""
        if self._open_until is None:
            return True
        if self._probing or self._clock() < self._open_until:
            return False
        self._probing = True
        return True

    def retry_after(self) -> float:
        """Seconds until asking has a chance; spread, so that not all come back at once."""
        remaining = 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())
        return remaining + random.uniform(0, self._seconds)

    def succeeded(self) -> None:
        """It answered: all may ask again."""
        self._row = 0
        self._open_until = None
        self._probing = False

    def failed(self) -> bool:
        """It did not answer. Returns whether that was once too often, just now."""
        self._row += 1
        self._probing = False
        # Failures of those who were under way when it opened do not keep it open for longer.
        if self._row < self._failures or not (self._open_until is None or self._clock() >= self._open_until):
            return False
        self._open_until = self._clock() + self._seconds
        return True

    def abandoned(self) -> None:
        """Whoever asked went away before the outcome was known; at worst there is a second probe."""
        self._probing = False


class RetryBudget:
    """Lets one failure in five be tried again, so that retries never multiply a server's load."""

    def __init__(self) -> None:
        self._saved = MAX_RETRIES

    def first_try(self) -> None:
        """Somebody asks; earns a share of a retry."""
        self._saved = min(self._saved + RETRY_SHARE, MAX_RETRIES)

    def retry(self) -> bool:
        """Whether to try again; spends one if so."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
