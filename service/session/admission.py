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
from service.session.limits import TokenBucket

logger = logging.getLogger(__name__)

#: Connections that begin in one turn of the event loop: about 5 ms of work. The others wait, so that
#: those who are connected already are served in between.
PER_TURN = 12

#: Connections that wait for their turn at most: about half a second of work, well below the 2 s in which
#: who is admitted shall be answered. A node slower than `limits.connects_per_second` refuses by this bound.
MAX_WAITING = 500

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
        if len(self._waiting) < MAX_WAITING:
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
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(PER_TURN, len(self._waiting))):
            begin = self._waiting.popleft()
            try:
                begin()
            except Exception:  # the others are to have their turn all the same
                logger.exception("a connection could not begin")
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
