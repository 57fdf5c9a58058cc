"""Writes records to streams by plain `XADD`, at the pace of their time line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from service.feeds.record import Record

#: Sends commands to Redis as one pipeline and returns a reply for each, errors among them;
#: repeats nothing, or an entry would be written twice. `streams.link.Link.call` is one.
Pipeline = Callable[[Sequence[tuple[bytes | str | int, ...]]], Awaitable[list[Any]]]

#: Entries of one pipeline: enough to keep Redis busy, few enough to show progress and stop quickly.
BATCH_ENTRIES = 500

#: Bytes of one pipeline's payloads, about.
BATCH_BYTES = 1 << 20

#: Seconds by which a late writer may trail its time line before it gives up catching up, so that a
#: suspended laptop does not answer with a flood.
MAX_LAG_SECONDS = 5.0


async def write(
    records: Iterable[Record],
    pipeline: Pipeline,
    *,
    speed: float | None = 1.0,
    key_prefix: str = "",
    maxlen: Callable[[str], int] = lambda channel: 1000,
    on_batch: Callable[[int], None] = lambda entries: None,
) -> int:
    """Write all records, in order, and return how many there were.

    Args:
        records: in the order of their `at_ms`; may be endless.
        pipeline: the way to Redis.
        speed: how much faster than the time line; None: as fast as Redis takes them.
        key_prefix: stands before every channel in the stream's key.
        maxlen: how many entries a channel's stream keeps, about; 0: all.
        on_batch: called with the number of entries just written.

    Raises:
        CommandFailed: Redis refused an entry.
        Unavailable: from `pipeline`, Redis went away.
        ValueError: from `records`, a broken line of a file.
    """
    pace = _Pace(speed)
    batch: list[Record] = []
    size = written = 0
    for record in records:
        delay = pace.delay(record.at_ms)
        if batch and (delay > 0 or len(batch) >= BATCH_ENTRIES or size >= BATCH_BYTES):
            await _flush(batch, pipeline, key_prefix, maxlen)
            written += len(batch)
            on_batch(len(batch))
            batch.clear()
            size = 0
            delay = pace.delay(record.at_ms)
        if delay > 0:
            await asyncio.sleep(delay)
        batch.append(record)
        size += len(record.data)
    if batch:
        await _flush(batch, pipeline, key_prefix, maxlen)
        written += len(batch)
        on_batch(len(batch))
    return written


class _Pace:
    """When a record is due. The first one is due at once."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._origin: float | None = None

    def delay(self, at_ms: float) -> float:
        """Seconds until the record at `at_ms` is due, 0 or less when it is."""
        if self._speed is None:
            return 0.0
        now = time.monotonic()
        due_after = at_ms / 1000 / self._speed
        if self._origin is None:
            self._origin = now - due_after
        delay = self._origin + due_after - now
        if delay < -MAX_LAG_SECONDS:
            self._origin -= delay
            return 0.0
        return delay


async def _flush(
    batch: list[Record], pipeline: Pipeline, key_prefix: str, maxlen: Callable[[str], int]
) -> None:
    commands: list[tuple[bytes | str | int, ...]] = []
    for record in batch:
        length = maxlen(record.channel)
        trim = ("MAXLEN", "~", length) if length else ()
        commands.append(("XADD", key_prefix + record.channel, *trim, "*", "data", record.data))
    for reply in await pipeline(commands):
        if isinstance(reply, Exception):
            raise reply
