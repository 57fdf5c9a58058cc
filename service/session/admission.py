"""Whether a node takes one more connection: decided before anything is spent on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from service.metrics import Metrics
from service.sections import Limits
from service.session.limits import TokenBucket

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
        if not rate or self._bucket.take(rate, limits.connects_burst, now):
            return None
        self._metrics.admission_rejected.labels("rate").inc()
        self._promised = min(max(self._promised, now) + 1 / rate, now + LONGEST_RETRY)
        return Refusal("too many connections at once", math.ceil(self._promised - now))
