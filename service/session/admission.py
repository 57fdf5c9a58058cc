"""Whether a node takes one more connection: decided before anything is spent on it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from service.metrics import Metrics
from service.sections import Limits
from service.session.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

#: Seconds that connections begin for before the event loop gets its turn; those who are connected already
#: are served in between. Longer where the turns are long: whoever waits has as much time as all the rest.
SLICE = 0.005

#: Connections that wait for their turn, or for the answer to `connect`, at most: about half a second of
#: work, well below the 2 s in which who is admitted shall be answered. A node slower than
#: `limits.connects_per_second` refuses by this bound.
MAX_WAITING = 500

#: Seconds after which one that has begun counts no longer: its client does not say `connect`.
PATIENCE = 2.0

#: Seconds after which a client that a full node refused may ask again.
FULL_RETRY = 5

#: Longest wait, in seconds, that a client is asked for.
LONGEST_RETRY = 60


class Refusal(NamedTuple):
    """Why a connection is refused, and in how many seconds it may be tried again."""

    reason: str
    retry_after: int


class Admission:
    """Admits as many connections as a node may have, and as many a second as it can serve well.

    Who comes too fast is given a time at which there is room, one after the other, so that a crowd that
    lost its node comes back as a queue.
    """

    def __init__(self, limits: Limits, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._bucket = TokenBucket(limits.connects_burst, clock())
        # When the one refused last was told to come again.
        self._promised = clock()
        self._waiting: deque[Callable[[], None]] = deque()
        # When those began who are not answered yet; which is whose does not matter.
        self._begun: deque[float] = deque()
        # The end of the last turn in which connections began.
        self._ended = clock()

    def admit(self, connections: int) -> Refusal | None:
        """Why a new connection is refused; None admits it.

        Args:
            connections: how many there are, with the new one.
        """
        limits = self._limits
        if connections > limits.connections:
            self._metrics.admission_rejected.labels("connections").inc()
            return Refusal("too many connections", FULL_RETRY)
        rate, now = limits.connects_per_second, self._clock()
        while self._begun and self._begun[0] < now - PATIENCE:
            self._begun.popleft()
        if len(self._waiting) + len(self._begun) < MAX_WAITING:
            if not rate or self._bucket.take(rate, limits.connects_burst, now):
                return None
        else:
            rate = rate or MAX_WAITING
        self._metrics.admission_rejected.labels("rate").inc()
        self._promised = min(max(self._promised, now) + 1 / rate, now + LONGEST_RETRY)
        return Refusal("too many connections at once", math.ceil(self._promised - now))

    def enter(self, begin: Callable[[], None]) -> None:
        """Have a connection that was admitted begin when its turn comes."""
        self._waiting.append(begin)
        if len(self._waiting) == 1:
            self._ended = self._clock()
            asyncio.get_running_loop().call_soon(self._turn)

    def answered(self) -> None:
        """One of those who have begun has the answer to `connect`."""
        if self._begun:
            self._begun.popleft()

    def _turn(self) -> None:
        began = self._clock()
        ends = began + max(SLICE, began - self._ended)
        while self._waiting and self._clock() < ends:
            begin = self._waiting.popleft()
            self._begun.append(began)
            try:
                begin()
            except Exception:  # the others are to have their turn all the same
                logger.exception("a connection could not begin")
        self._ended = self._clock()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
