"""One timer for all sessions: pings, pongs, connects and closes that are overdue."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

logger = logging.getLogger(__name__)

#: Seconds between two turns; deadlines are late by at most so much.
TICK = 0.25

#: Seconds of deadlines worked on before the event loop gets its turn.
SLICE = 0.002


class Timed(Protocol):
    """Something with one deadline at a time."""

    #: The tick of its deadline; 0 while it has none.
    due: int

    def on_deadline(self) -> None:
        """The deadline has come; another one may be set."""


class Wheel:
    """Calls `on_deadline` of what is due. `run` turns it and ends when cancelled."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Timed]] = {}
        self._tick = self._now()

    @staticmethod
    def _now() -> int:
        return int(time.monotonic() / TICK)

    def set(self, timed: Timed, seconds: float) -> None:
        """Set the deadline, instead of the one there was."""
        self.clear(timed)
        timed.due = max(self._tick, self._now()) + 1 + int(seconds / TICK)
        self._slots.setdefault(timed.due, set()).add(timed)

    def clear(self, timed: Timed) -> None:
        """Take the deadline back."""
        if timed.due:
            self._slots.get(timed.due, set()).discard(timed)
            timed.due = 0

    async def run(self) -> None:
        """Turn; never returns."""
        while True:
            await asyncio.sleep(TICK)
            turn_ends = time.perf_counter() + SLICE
            while self._tick < self._now():
                self._tick += 1
                # Left in its place meanwhile: what is cleared or set anew while we yield must leave it.
                slot = self._slots.get(self._tick, set())
                while slot:
                    timed = slot.pop()
                    timed.due = 0
                    try:
                        timed.on_deadline()
                    except Exception:  # one session's failure must not stop the wheel
                        logger.exception("a deadline could not be handled")
                    if time.perf_counter() > turn_ends:
                        await asyncio.sleep(0)
                        turn_ends = time.perf_counter() + SLICE
                self._slots.pop(self._tick, None)
