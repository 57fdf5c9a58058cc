"""What the settings of a node and of its namespaces change: keys, prefixes, intervals, trimming."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from tests.support.checker import add, add_many, check
from tests.support.node import StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]


async def test_a_key_prefix_stands_before_every_key(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"redis": {"key_prefix": "live:"}})
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await add(redis, channel, "another's")
        await add(redis, f"live:{channel}", "ours")
        assert await client.next_data(channel) == "ours"
        await client.call("publish", channel=channel, data="published")
        assert await redis.xlen(f"live:{channel}") == 2


async def test_a_channel_without_a_prefix_belongs_to_the_default_namespace(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"default_namespace": "log"})
    channel = name("log").replace("log:", "plain-")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await add(redis, channel, "here")
        assert await client.next_data(channel) == "here"


async def test_a_coalescing_namespace_loses_nothing(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"namespaces": {"log": {"coalesce_ms": 50}}})
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        written = []
        for number in range(200):
            written.append(await add(redis, channel, number))
        check(await client.publications(channel, 200), written)


async def test_publishing_trims_to_the_namespaces_history(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"namespaces": {"chat": {"history_size": 100}}})
    channel = name("chat")
    await add_many(redis, channel, range(1000))
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.call("publish", channel=channel, data="new")
        assert await client.next_data(channel) == "new"
    assert 100 <= await redis.xlen(channel) <= 300  # "about": Redis trims whole nodes of its radix tree


async def test_streams_of_foreign_producers_are_trimmed(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    channel = name("trimmed")
    await add_many(redis, channel, range(2000))
    await start_node(
        redis_process.url,
        {"redis": {"trim_seconds": 0.2}, "namespaces": {"trimmed": {"mode": "log", "history_size": 100}}},
    )

    async def trimmed() -> bool:
        length: int = await redis.xlen(channel)
        return 100 <= length <= 300

    await eventually(trimmed, "the stream is trimmed")
