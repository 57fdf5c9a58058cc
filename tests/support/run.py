"""One chaos run: readers follow a stream through faults, and a checker compares."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from tests.support.checker import check, entries
from tests.support.producer import Producer
from tests.support.reader import Reader
from tests.support.waiting import eventually

#: Seconds that readers may take to the end of the stream once it is written.
_CATCH_UP = 30.0

#: Seconds that the producer may take from one fault to the next.
_WRITING = 60.0

#: Bounds that no run reaches: what these runs prove is that nothing is lost, not where bounds lie.
ROOMY = {"limits": {"recovery_entries": 100_000, "outbox_bytes": 67_108_864}}

#: What happens to nodes and Redis while the producer writes; `progress(share)` waits for a part of the run.
Fault = Callable[[Callable[[float], Awaitable[object]]], Awaitable[None]]


async def run(
    urls: Sequence[str],
    redis: Redis,
    key: str,
    *,
    seed: int,
    count: int,
    readers: int = 3,
    pause: float = 0.01,
    fault: Fault | None = None,
) -> list[Reader]:
    """Readers that hop between `urls` and cut themselves end with exactly the stream's entries.

    Args:
        redis: where the producer writes.
        key: the stream, and the channel.
        seed: decides sizes, pauses, cuts and ways.
        count: entries written after the readers have joined.
        pause: the producer's longest pause between two batches, in seconds.
        fault: what else happens.

    Returns:
        The readers, for claims about what they went through.
    """
    rng = random.Random(seed)
    producer = Producer(redis, key, rng=rng, pause=pause)
    if seed % 2:  # join a stream that has a past; else one that is not there yet
        await producer.write(10)
    before = producer.written

    async def progress(share: float) -> None:
        wanted = before + int(count * share)
        await eventually(
            lambda: producer.written >= wanted, f"{wanted} entries are written", seconds=_WRITING
        )

    async with AsyncExitStack() as stack:
        followers = [
            Reader(urls, key, rng=random.Random(rng.random()), cuts=count // 200) for _ in range(readers)
        ]
        for reader in followers:
            await stack.enter_async_context(reader)
        async with asyncio.TaskGroup() as group:
            group.create_task(producer.write(count))
            if fault is not None:
                group.create_task(_as_task(fault(progress)))
        for reader in followers:
            await reader.until_offset(producer.offset, _CATCH_UP)
        for number, reader in enumerate(followers):
            assert reader.start is not None
            check(reader.received, await entries(redis, key, reader.start), f"seed {seed}, reader {number}")
            assert reader.unrecovered == [], f"told of a gap that is none: {reader}"
            assert reader.recoveries > 0, f"it was never cut: {reader}"
    return followers


async def _as_task(awaitable: Awaitable[None]) -> None:
    await awaitable
