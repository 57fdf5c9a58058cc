"""Keeping a log readable: the same complaint at most once in a while."""

from __future__ import annotations

import time

#: Subjects remembered; beyond, the oldest may be told again early.
MAX_SUBJECTS = 10_000


class OncePer:
    """Allows each subject once in `seconds`."""

    __slots__ = ("_last", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def allows(self, subject: str) -> bool:
        """Whether to speak of this subject now."""
        now = time.monotonic()
        last = self._last.get(subject)
        if last is not None and now - last < self._seconds:
            return False
        self._last.pop(subject, None)
        self._last[subject] = now
        if len(self._last) > MAX_SUBJECTS:
            del self._last[next(iter(self._last))]
        return True
