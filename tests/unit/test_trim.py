"""streams.trim: streams of foreign producers are trimmed by one node, and nothing else is touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from service.channels import Namespace
from service.config import Settings
from service.metrics import Metrics
from service.streams import trim as trim_module
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.trim import Trimmer
from tests.support.waiting import eventually

Name = Callable[[str], str]

SETTINGS = Settings(
    namespaces={
        "short": Namespace(history_size=100),
        "young": Namespace(history_size=0, history_ttl=60),
        "kept": Namespace(history_size=0),
    }
)


async def _fill(redis: Redis, key: str, count: int = 1000, first_ms: int | None = None) -> None:
    pipeline = redis.pipeline(transaction=False)
    for i in range(count):
        pipeline.xadd(key, {"data": "1"}, id="*" if first_ms is None else f"{first_ms + i}-0")
    await pipeline.execute()


async def test_every_stream_is_trimmed_by_its_namespace(commands: Commands, redis: Redis, name: Name) -> None:
    """By size, by age, or not at all; what was trimmed is counted by namespace."""
    prefix = name("trim")
    metrics = Metrics()
    trimmer = Trimmer(commands, Keys(prefix), SETTINGS.namespace_of, 60, metrics)
    now = int(time.time() * 1000)
    await _fill(redis, prefix + "short:a")
    await _fill(redis, prefix + "young:a", first_ms=now - 120_000)  # all of it older than a minute …
    await _fill(redis, prefix + "young:a", 10)  # … but these
    await _fill(redis, prefix + "kept:a")
    await _fill(redis, prefix + "foreign:a")
    await redis.set(prefix + "short:string", "x")
    await trimmer.trim_all()
    assert 100 <= await redis.xlen(prefix + "short:a") <= 300
    assert 10 <= await redis.xlen(prefix + "young:a") <= 210
    assert await redis.xlen(prefix + "kept:a") == 1000
    assert await redis.xlen(prefix + "foreign:a") == 1000
    sample = metrics.registry.get_sample_value
    trimmed = sample("streamgate_trimmed_entries_total", {"namespace": "short"})
    assert trimmed == 1000 - await redis.xlen(prefix + "short:a")
    assert (sample("streamgate_trimmed_entries_total", {"namespace": "young"}) or 0) >= 800


async def test_streams_of_other_prefixes_are_left_alone(commands: Commands, redis: Redis, name: Name) -> None:
    """Another installation in the same Redis trims its own."""
    prefix, other = name("trim"), name("trim")
    await _fill(redis, other + "short:a")
    await Trimmer(commands, Keys(prefix), SETTINGS.namespace_of, 60, Metrics()).trim_all()
    assert await redis.xlen(other + "short:a") == 1000


async def test_a_prefix_is_no_pattern(commands: Commands, redis: Redis, name: Name) -> None:
    """Characters that mean something to SCAN stand for themselves."""
    prefix = name("trim") + "[x]*"
    await _fill(redis, prefix + "short:a")
    await Trimmer(commands, Keys(prefix), SETTINGS.namespace_of, 60, Metrics()).trim_all()
    assert await redis.xlen(prefix + "short:a") <= 300


async def test_a_walk_takes_many_steps(
    commands: Commands, redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams are found however many keys there are."""
    prefix = name("trim")
    monkeypatch.setattr(trim_module, "SCAN_COUNT", 10)
    monkeypatch.setattr(trim_module, "PAUSE", 0.0)
    for i in range(30):
        await _fill(redis, f"{prefix}short:{i}", 250)
    await Trimmer(commands, Keys(prefix), SETTINGS.namespace_of, 60, Metrics()).trim_all()
    lengths = [await redis.xlen(f"{prefix}short:{i}") for i in range(30)]
    assert max(lengths) <= 200


async def test_one_node_at_a_time(commands: Commands, redis: Redis, name: Name) -> None:
    """A period's walk is one node's: the other finds the lease taken."""
    prefix = name("trim")
    metrics = [Metrics(), Metrics()]
    nodes = [
        asyncio.create_task(Trimmer(commands, Keys(prefix), SETTINGS.namespace_of, 0.3, each).run())
        for each in metrics
    ]

    def walks() -> list[float]:
        name = "streamgate_trim_last_timestamp_seconds"
        return [each.registry.get_sample_value(name) or 0.0 for each in metrics]

    await eventually(lambda: max(walks()) > 0, "one of them has walked")
    assert min(walks()) == 0
    for node in nodes:
        node.cancel()
    await asyncio.gather(*nodes, return_exceptions=True)
    assert 0 < await redis.pttl(Keys(prefix).trim_lease()) <= 300


async def test_a_period_of_zero_is_never(commands: Commands) -> None:
    """It neither walks nor ends."""
    running = asyncio.create_task(Trimmer(commands, Keys(""), SETTINGS.namespace_of, 0, Metrics()).run())
    await asyncio.wait([running], timeout=0.05)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
