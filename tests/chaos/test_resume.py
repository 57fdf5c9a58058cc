"""Clients cut at random moments, hopping between two nodes, end with exactly the stream's entries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.node import StartNode
from tests.support.redis_process import RedisProcess
from tests.support.run import ROOMY, run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="windows"),
        pytest.param({"limits": {"window_total_bytes": 0}}, id="no-windows"),
        # Followed and forgotten at once: every reconnect joins a channel anew.
        pytest.param({"redis": {"unfollow_seconds": 0}}, id="no-linger"),
        pytest.param({"namespaces": {"log": {"coalesce_ms": 20}}}, id="coalesced"),
    ],
)
async def test_hopping_clients_miss_nothing(
    seed: int,
    settings: dict[str, Any],
    entry_count: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    merged = {**settings, "limits": ROOMY["limits"] | settings.get("limits", {})}
    nodes = await asyncio.gather(*(start_node(redis_process.url, merged) for _ in range(2)))
    await run([node.url for node in nodes], redis, name("log"), seed=seed, count=entry_count)
