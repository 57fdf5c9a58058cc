"""A gap is told: 2500 to a client that is there, `recovered:false` to one that comes back. Never silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.ws_client import Closed, open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]

#: Sweeps compare cursors and epochs; gaps that leave no hint are found by them.
SWEEPING = {"redis": {"sweep_seconds": 0.2}}

#: An offset that no stream reaches: the year 2036.
FUTURE = 2_082_758_400_000 << 12


async def _told(reader: Reader) -> None:
    await reader.until(lambda: bool(reader.unrecovered) and reader.subscribed, "it was told of the gap")


async def test_a_stream_trimmed_past_a_stopped_node(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        for given in await add_many(redis, channel, range(10)):
            last = given
        await reader.until_offset(last.offset)
        node.pause()
        await add_many(redis, channel, range(10, 100))
        await redis.xtrim(channel, maxlen=5, approximate=False)
        node.resume()
        await _told(reader)
        assert reader.insufficient == 1
        assert reader.connections == 1
        goes_on = await add(redis, channel, "after")
        await reader.until_data("after")
        assert reader.received[-1] == goes_on
        check(reader.received[:10], [Given(given.offset, n) for n, given in enumerate(reader.received[:10])])


async def test_a_stopped_node_whose_stream_kept_everything_misses_nothing(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        first = await add(redis, channel, "first")
        await reader.until_offset(first.offset)
        node.pause()
        await add_many(redis, channel, range(500))
        # Entries before the cursor may go, that is no gap.
        await redis.xtrim(channel, maxlen=501, approximate=False)
        last = await add(redis, channel, "last")
        node.resume()
        await reader.until_offset(last.offset)
        check(reader.received, await entries(redis, channel))
        assert (reader.insufficient, reader.unrecovered) == (0, [])


async def test_the_cursors_own_entry_trimmed_is_no_gap(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    """F > P by one entry: nothing between was lost only if the entry at P is known to be the last trimmed.

    The rule of DESIGN.md decides by F and P alone; told or whole, never silently short.
    """
    node = await start_node(redis_process.url)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        first = await add(redis, channel, "first")
        await reader.until_offset(first.offset)
        node.pause()
        written = await add_many(redis, channel, range(5))
        await redis.xtrim(channel, maxlen=5, approximate=False)
        node.resume()
        await reader.until_offset(written[-1].offset)
        if not reader.unrecovered:
            check(reader.received, [first, *written])


async def test_latest_needs_no_notice(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("latest")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await add(redis, channel, "old")
        assert await client.next_data(channel) == "old"
        node.pause()
        await add_many(redis, channel, range(100))
        await redis.xtrim(channel, maxlen=1, approximate=False)
        node.resume()
        assert await client.next_data(channel) == 99


@pytest.mark.parametrize("ids", ["lower", "higher"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_a_stream_deleted_and_rewritten(
    ids: str, stopped: bool, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, SWEEPING)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        old = await add_many(redis, channel, range(10))
        await reader.until_offset(old[-1].offset)
        if stopped:
            node.pause()
        new: list[Given] = []
        await redis.delete(channel)
        for number in range(3):
            entry_id = f"{number + 1}-1" if ids == "lower" else "*"
            new.append(await add(redis, channel, f"new {number}", entry_id))
        node.resume()
        await _told(reader)
        assert reader.received[:10] == old
        # From here on it is one stream again, whatever its ids are.
        entry_id = "9-1" if ids == "lower" else "*"
        await add(redis, channel, "after", entry_id)
        await reader.until_data("after")
        seen = reader.received[reader.unrecovered[-1] :]
        check(seen, (await entries(redis, channel))[-len(seen) :])


async def test_a_stream_set_back_to_an_older_state(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    """As after a failover that lost the tail: the cursor is above the last id."""
    node = await start_node(redis_process.url, SWEEPING)
    channel = name("log")
    await add(redis, channel, "kept")
    await redis.copy(channel, f"{channel}-copy")
    async with Reader([node.url], channel) as reader:
        lost = await add_many(redis, channel, ["lost", "lost too"])
        await reader.until_offset(lost[-1].offset)
        await redis.copy(f"{channel}-copy", channel, replace=True)
        await _told(reader)
        # Ids between the restored last one and the cursor that was: a tail that waits would skip them.
        kept = (await entries(redis, channel))[-1]
        between = f"{kept.offset >> 12}-{(kept.offset & 4095) + 1}"
        given = await add(redis, channel, "between", between)
        assert given.offset < lost[-1].offset
        await reader.until_data("between")
        assert reader.received[-1] == given


async def test_every_key_flushed(
    start_node: StartNode,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    name: Name,
) -> None:
    process = start_redis()
    redis = connect_redis(process.url)
    node = await start_node(process.url, SWEEPING)
    channel, quiet = name("log"), name("log")
    async with Reader([node.url], channel) as reader, Reader([node.url], quiet) as never_written:
        old = await add_many(redis, channel, range(5))
        await reader.until_offset(old[-1].offset)
        await redis.flushall()
        await add(redis, channel, "new life")
        await _told(reader)
        # The change of the stream may be seen before that of its epoch, and told by itself.
        await reader.until(lambda: len(reader.epochs) == 2 and reader.subscribed, "it has the new epoch")
        await add(redis, channel, "goes on")
        await reader.until_data("goes on")
        await add(redis, quiet, "first")
        await never_written.until_data("first")


async def test_a_reconnect_after_a_flush_has_a_new_epoch(
    start_node: StartNode,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    name: Name,
) -> None:
    process = start_redis()
    redis = connect_redis(process.url)
    first, second = await start_node(process.url), await start_node(process.url)
    channel = name("log")
    async with open_client(first.url) as client:
        position = await client.subscribe(channel)
        given = await add(redis, channel, "old")
        await client.next_publication(channel)
    await redis.flushall()
    await add(redis, channel, "new")
    async with open_client(second.url) as client:
        result = await client.recover(channel, position | {"offset": given.offset})
        assert result["was_recovering"] is True
        assert not result.get("recovered")
        assert result["epoch"] != position["epoch"]
        assert "publications" not in result
        await add(redis, channel, "newer")
        assert await client.next_data(channel) == "newer"


@pytest.mark.parametrize("followed", [False, True], ids=["cold", "followed"])
async def test_a_position_above_the_last_id(followed: bool, nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    last = await add(redis, channel, "last")
    async with open_client(nodes[0].url) as first, open_client(nodes[0].url) as client:
        epoch = (await first.call("history", channel=channel))["epoch"]
        if followed:
            await first.subscribe(channel)
        result = await client.recover(channel, {"offset": FUTURE, "epoch": epoch})
        assert result["was_recovering"] is True
        assert not result.get("recovered")
        assert result["offset"] == last.offset
        given = await add(redis, channel, "next")
        assert await client.publications(channel, 1) == [given]


async def test_flag_2_asks_for_error_112_instead(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    await add(redis, channel, "last")
    async with open_client(node.url) as client:
        epoch = (await client.call("history", channel=channel))["epoch"]
        error = await client.error(
            "subscribe", channel=channel, recover=True, offset=FUTURE, epoch=epoch, flag=2
        )
        assert error["code"] == 112


@pytest.mark.parametrize("offset", [-1, 2**53, 2**64, 2**80, "1", 1.5])
async def test_an_offset_that_is_none(offset: Any, node: NodeProcess, redis: Redis, name: Name) -> None:
    """Refused, or not recovered; never silence."""
    channel = name("log")
    await add(redis, channel, "last")
    async with open_client(node.url) as client:
        epoch = (await client.call("history", channel=channel))["epoch"]
        number = client.next_id()
        await client.send_raw(
            json.dumps(
                {
                    "id": number,
                    "subscribe": {"channel": channel, "recover": True, "epoch": epoch, "offset": offset},
                }
            )
        )
        try:
            reply = await client.reply(number)
        except Closed:
            assert (await client.closed())[0] == 3501
            return
        assert reply.get("error", {}).get("code") == 107 or not reply["subscribe"].get("recovered")
