"""A feed producer: plain XADD, as docs/producers.md shows it."""

from __future__ import annotations

import asyncio
import json
import random

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.checker import offset_of

#: Seconds between two attempts while Redis is away.
_RETRY = 0.05


class Producer:
    """Writes numbered entries to one stream, in batches of random size at random moments.

    Args:
        redis: where; an XADD that fails is tried again (the stream is the truth, doubles included).
        key: the stream.
        rng: decides sizes and pauses.
        batch: the largest batch.
        pause: the longest pause between two batches, in seconds.
    """

    def __init__(
        self, redis: Redis, key: str, *, rng: random.Random, batch: int = 100, pause: float = 0.01
    ) -> None:
        self._redis = redis
        self._key = key
        self._rng = rng
        self._batch = batch
        self._pause = pause
        self._stopped = False
        self.written = 0
        #: The offset of the last entry.
        self.offset = 0

    async def write(self, count: int) -> None:
        """Write so many entries more, or until `stop`."""
        end = self.written + count
        while self.written < end and not self._stopped:
            size = min(self._rng.randint(1, self._batch), end - self.written)
            numbers = range(self.written, self.written + size)
            try:
                pipeline = self._redis.pipeline(transaction=False)
                for number in numbers:
                    pipeline.xadd(self._key, {"data": json.dumps({"n": number})})
                ids = await pipeline.execute()
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY)
                continue
            self.written += size
            self.offset = offset_of(ids[-1].decode())
            await asyncio.sleep(self._rng.random() * self._pause)

    def stop(self) -> None:
        """End `write` after the batch under way. (redis-py may swallow the cancellation of a task.)"""
        self._stopped = True
