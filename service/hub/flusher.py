"""Writing pending output, in slices, so that no fan-out stalls the event loop.

A batch is appended to all its subscribers' outboxes in one step; then the touched outboxes are
flushed in turn, `SLICE` seconds at a time.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from typing import Protocol

logger = logging.getLogger(__name__)

#: Seconds of writing before the event loop gets its turn. A write to a socket takes about 6 µs.
SLICE = 0.002

#: Sockets written to between two looks at the clock.
STRIDE = 16

#: Bytes fanned out but not yet written at which the tail stops reading.
MAX_BACKLOG = 16 * 2**20


#: `Flushable.due` of an outbox that is to be flushed in this turn of the loop, or a following one.
NOW = 0

#: `Flushable.due` of an outbox that the flusher does not know of: later than any interval.
IDLE = sys.maxsize


class Flushable(Protocol):
    """What the flusher needs of an outbox."""

    #: Milliseconds of the shortest interval at whose end it is to be flushed; NOW, or IDLE.
    due: int
    #: Bytes held while the socket is full.
    held: int

    def flush(self) -> None:
        """Write until the socket is full or nothing is left."""

    def give_up(self, reason: str) -> None:
        """Drop everything and have the session closed as slow."""


class Broadcast(Protocol):
    """One chunk on its way to many sockets; see `delivery.Broadcast`."""

    def write(self, ends: float) -> bool:
        """Write on until `ends` (of `time.perf_counter`); tell whether all is written."""

    def hand_over(self) -> None:
        """Have the outboxes keep what is left, in the same step."""


class Later:
    """What is gathered until an interval ends. The fan-out appends here itself."""

    __slots__ = ("bytes", "outboxes")

    def __init__(self) -> None:
        self.outboxes: list[Flushable] = []
        #: Bytes fanned out to them for this interval.
        self.bytes = 0


class Flusher:
    """Flushes outboxes; keeps the account of what all of them hold.

    Args:
        held_limit: bytes held by all blocked outboxes at which the largest are given up.
    """

    def __init__(self, held_limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._held_limit = held_limit
        #: To be flushed now. The fan-out appends here itself.
        self.now: deque[Flushable] = deque()
        self._later: dict[int, Later] = {}
        self._broadcast: Broadcast | None = None
        self._scheduled = False
        self._drained = asyncio.Event()
        #: Bytes fanned out, to be flushed now, since there was last nothing to flush.
        self.backlog = 0
        #: Bytes held by blocked outboxes.
        self.held = 0
        self.blocked: set[Flushable] = set()

    def queue(self, outbox: Flushable) -> None:
        """Flush an outbox in this turn of the loop, after the caller has returned."""
        outbox.due = NOW
        self.now.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._slice)

    def later(self, interval_ms: int) -> Later:
        """What is to be flushed when the interval ends."""
        later = self._later.get(interval_ms)
        if later is None:
            later = self._later[interval_ms] = Later()
            self._loop.call_later(interval_ms / 1000, self._interval_ended, interval_ms)
        return later

    def _interval_ended(self, interval_ms: int) -> None:
        later = self._later.pop(interval_ms)
        self.backlog += later.bytes
        for outbox in later.outboxes:
            if outbox.due == interval_ms:  # else flushed meanwhile, or due at a shorter interval's end
                outbox.due = NOW
                self.now.append(outbox)
        self.run()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be flushed now: the condition of a `broadcast`."""
        return not self.now and self._broadcast is None

    def broadcast(self, broadcast: Broadcast) -> None:
        """Write one chunk to many sockets, before anything that comes later; only while `idle`."""
        self._broadcast = broadcast
        self.run()

    def settle(self) -> None:
        """From now on only the outboxes hold what is pending: what follows keeps its order."""
        if self._broadcast is not None:
            broadcast, self._broadcast = self._broadcast, None
            broadcast.hand_over()

    def run(self) -> None:
        """Flush what is queued: one slice at once, the rest in later turns of the loop."""
        if not self._scheduled:
            self._slice()

    def _slice(self) -> None:
        self._scheduled = False
        now = self.now
        ends = time.perf_counter() + SLICE
        broadcast = self._broadcast
        if broadcast is not None:
            if not broadcast.write(ends):
                self._scheduled = True
                self._loop.call_soon(self._slice)
                return
            self._broadcast = None
        while now:
            for _ in range(min(STRIDE, len(now))):
                outbox = now.popleft()
                try:
                    outbox.flush()
                except Exception:  # one session's failure must not stop the others
                    logger.exception("a session could not be written to")
                    outbox.give_up("error")
            if time.perf_counter() >= ends and now:
                self._scheduled = True
                self._loop.call_soon(self._slice)
                return
        self.backlog = 0
        self._drained.set()

    async def drained(self) -> None:
        """Return when less than `MAX_BACKLOG` waits to be written."""
        while self.backlog + sum(later.bytes for later in self._later.values()) > MAX_BACKLOG:
            self._drained.clear()
            await self._drained.wait()

    def add_held(self, size: int) -> None:
        """An outbox holds so many bytes more (or less); over the limit the largest are given up."""
        self.held += size
        if size > 0 and self.held > self._held_limit:
            for outbox in sorted(self.blocked, key=lambda o: o.held, reverse=True):
                outbox.give_up("total")
                # Down to nine tenths, so that the next byte does not sort them all again.
                if self.held <= self._held_limit * 0.9:
                    break
