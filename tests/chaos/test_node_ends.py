"""A node that is killed or drained costs its clients a reconnect and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.run import ROOMY, run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180), pytest.mark.seeds(1)]

#: Ends of a node in one run.
_ROUNDS = 3


async def _run(
    nodes: list[NodeProcess],
    redis: Redis,
    key: str,
    seed: int,
    count: int,
    end: Callable[[NodeProcess], Awaitable[object]],
) -> None:
    rng = random.Random(seed)

    async def fault(progress: Callable[[float], Awaitable[object]]) -> None:
        for number in range(_ROUNDS):
            await progress((number + rng.random()) / _ROUNDS)
            victim = rng.choice(nodes)
            await end(victim)
            await victim.start()

    await run([node.url for node in nodes], redis, key, seed=seed, count=count, pause=0.04, fault=fault)


async def test_a_killed_node(
    seed: int,
    entry_count: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    async def kill(node: NodeProcess) -> None:
        node.kill()

    nodes = list(await asyncio.gather(*(start_node(redis_process.url, ROOMY) for _ in range(2))))
    await _run(nodes, redis, name("log"), seed, entry_count, kill)


async def test_a_drained_node(
    seed: int,
    entry_count: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    settings = {**ROOMY, "server": {"settle_seconds": 0.1, "drain_seconds": 0.3}}
    nodes = list(await asyncio.gather(*(start_node(redis_process.url, settings) for _ in range(2))))
    await _run(nodes, redis, name("log"), seed, entry_count, NodeProcess.stop)
