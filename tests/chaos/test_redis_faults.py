"""Redis restarted, its connections cut, its hints lost: late at worst, never a gap, never twice."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.checker import offset_of
from tests.support.node import StartNode
from tests.support.proxy import Proxy, losing
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.run import ROOMY, run
from tests.support.waiting import eventually
from tests.support.ws_client import Client, open_client

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


@pytest.mark.seeds(1)
async def test_redis_restarted(
    seed: int,
    entry_count: int,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    process = start_redis(durable=True)
    settings = {**ROOMY, "redis": {"sweep_seconds": 1}}
    nodes = await asyncio.gather(*(start_node(process.url, settings) for _ in range(2)))
    rng = random.Random(seed)

    async def fault(progress: Callable[[float], Awaitable[object]]) -> None:
        for number in range(3):
            await progress((number + rng.random()) / 3)
            await asyncio.to_thread(process.restart)

    await run(
        [node.url for node in nodes],
        connect_redis(process.url),
        name("log"),
        seed=seed,
        count=entry_count,
        pause=0.04,
        fault=fault,
    )


@pytest.mark.seeds(1)
async def test_connections_to_redis_cut(
    seed: int,
    entry_count: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    rng = random.Random(seed)
    async with Proxy(redis_process.port) as proxy:
        nodes = await asyncio.gather(*(start_node(redis_process.url_at(proxy.port), ROOMY) for _ in range(2)))

        async def fault(progress: Callable[[float], Awaitable[object]]) -> None:
            for number in range(8):
                await progress((number + rng.random()) / 8)
                # Every other time in the middle of a reply.
                proxy.cut_after = rng.randint(1, 20_000) if number % 2 else None
                proxy.cut()
            proxy.cut_after = None
            proxy.cut()

        await run(
            [node.url for node in nodes],
            redis,
            name("log"),
            seed=seed,
            count=entry_count,
            pause=0.04,
            fault=fault,
        )


@pytest.mark.parametrize("share", [0.5, 1.0])
async def test_hints_lost_on_purpose(
    seed: int,
    share: float,
    entry_count: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    new_filter, lost = losing(random.Random(seed), share)
    async with Proxy(redis_process.port, new_filter=new_filter) as proxy:
        settings = {**ROOMY, "redis": {"sweep_seconds": 0.2}}
        nodes = await asyncio.gather(
            *(start_node(redis_process.url_at(proxy.port), settings) for _ in range(2))
        )
        await run([node.url for node in nodes], redis, name("log"), seed=seed, count=entry_count, pause=0.04)
    assert lost, "no hint came by, so none was lost"


async def test_a_publish_whose_answer_is_lost_is_one_entry(
    redis: Redis, redis_process: RedisProcess, start_node: StartNode, name: Callable[[str], str]
) -> None:
    async with Proxy(redis_process.port) as proxy:
        node = await start_node(redis_process.url_at(proxy.port))
        channel = name("chat")
        async with open_client(node.url) as client:
            await client.subscribe(channel)
            proxy.doom = b"only once"
            error = await client.error("publish", channel=channel, data={"text": "only once"})
            assert (error["code"], error.get("temporary")) == (100, True)
            assert proxy.executed_and_cut.is_set()
            proxy.doom = None
            assert await client.next_data(channel) == {"text": "only once"}
            await _until_redis_is_back(client, channel)
            await client.call("publish", channel=channel, data={"text": "after"})
            assert await client.next_data(channel) == {"text": "after"}
        assert await redis.xlen(channel) == 2


@pytest.mark.seeds(1)
async def test_publishes_through_cuts_are_never_doubled(
    seed: int,
    redis: Redis,
    redis_process: RedisProcess,
    start_node: StartNode,
    name: Callable[[str], str],
) -> None:
    rng = random.Random(seed)
    channel = name("chat")
    acked, executed, unknown = set[str](), set[str](), set[str]()
    async with Proxy(redis_process.port) as proxy:
        node = await start_node(redis_process.url_at(proxy.port))
        async with open_client(node.url) as client:
            await client.subscribe(channel)
            for _ in range(40):
                text = uuid.uuid4().hex
                proxy.executed_and_cut.clear()
                proxy.doom = text.encode() if rng.random() < 0.4 else None
                reply = await client.command("publish", channel=channel, data=text)
                if "error" not in reply:
                    acked.add(text)
                elif proxy.executed_and_cut.is_set():
                    executed.add(text)
                    await _until_redis_is_back(client, channel)
                else:
                    unknown.add(text)
            stream: Any = await redis.xrange(channel)
            published = [fields[b"data"].decode().strip('"') for _, fields in stream]
            assert len(published) == len(set(published)), "a publish became two entries"
            assert acked | executed <= set(published) <= acked | executed | unknown
            assert executed, "nothing was cut"
            heard = await client.publications(channel, len(published))
            assert heard == [
                (offset_of(entry_id.decode()), text)
                for (entry_id, _), text in zip(stream, published, strict=True)
            ]


async def _until_redis_is_back(client: Client, channel: str) -> None:
    async def answered() -> bool:
        return "error" not in await client.command("history", channel=channel)

    await eventually(answered, "commands are answered again")
