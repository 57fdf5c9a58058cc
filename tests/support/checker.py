"""Compares what a client was given with what the stream holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from redis.asyncio import Redis

#: Beyond this sequence number offsets of one millisecond are the same.
_MAX_SEQ = 4095


class Given(NamedTuple):
    """One publication as a client sees it."""

    offset: int
    data: Any


def offset_of(entry_id: str) -> int:
    """The client's offset of a stream id."""
    ms, _, seq = entry_id.partition("-")
    return int(ms) << 12 | min(int(seq), _MAX_SEQ)


async def entries(redis: Redis, key: str, after: int = 0) -> list[Given]:
    """What the stream holds after an offset; entries whose one field is `data`."""
    minimum = f"({after >> 12}-{after & _MAX_SEQ}" if after else "-"
    found: Any = await redis.xrange(key, min=minimum)
    return [Given(offset_of(entry_id.decode()), json.loads(fields[b"data"])) for entry_id, fields in found]


async def add(redis: Redis, key: str, data: Any, entry_id: str = "*") -> Given:
    """XADD one entry with a `data` field; what a client is to be given for it."""
    new: Any = await redis.xadd(key, {"data": json.dumps(data)}, id=entry_id)
    return Given(offset_of(new.decode()), data)


async def add_many(redis: Redis, key: str, data: Iterable[Any], *, at_once: bool = False) -> list[Given]:
    """XADD entries in one pipeline; `at_once`: in a MULTI, so that no reader sees a part of them."""
    pipeline = redis.pipeline(transaction=at_once)
    items = list(data)
    for item in items:
        pipeline.xadd(key, {"data": json.dumps(item)})
    ids: Any = await pipeline.execute()
    return [Given(offset_of(new.decode()), item) for new, item in zip(ids, items, strict=True)]


def check(received: list[Given], expected: list[Given], who: str = "the client") -> None:
    """Exactly the expected entries, in order, none twice.

    Raises:
        AssertionError: tells the first difference, and what kind it is.
    """
    if received == expected:
        return
    pairs = zip(received, expected, strict=False)
    shorter = min(len(received), len(expected))
    at = next((index for index, (got, wanted) in enumerate(pairs) if got != wanted), shorter)
    got_here = received[at] if at < len(received) else None
    wanted_here = expected[at] if at < len(expected) else None
    if got_here is None:
        kind = "the end is missing"
    elif got_here in received[:at]:
        kind = "a duplicate"
    elif got_here not in expected:
        kind = "an entry that the stream does not hold"
    elif wanted_here in received[at:]:
        kind = "out of order"
    else:
        kind = "a gap"
    raise AssertionError(
        f"{who}: {kind} at index {at} of {len(expected)} ({len(received)} received):\n"
        f"  received {_around(received, at)}\n"
        f"  expected {_around(expected, at)}"
    )


def _around(given: list[Given], at: int) -> str:
    first = max(0, at - 2)
    shown = ", ".join(
        f"{'>' if index == at else ''}[{index}] {item.offset} {json.dumps(item.data)[:60]}"
        for index, item in enumerate(given[first : at + 3], first)
    )
    return shown or "nothing"
