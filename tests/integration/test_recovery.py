"""A client that comes back gets what it missed, or is told that it cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import Json, open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]


def _given(result: Json) -> list[Given]:
    return [Given(item["offset"], item["data"]) for item in result.get("publications", [])]


async def _leave(node: NodeProcess, channel: str, redis: Redis) -> Json:
    """A position after one entry, of a client that is gone again."""
    async with open_client(node.url) as client:
        position = await client.subscribe(channel)
        given = await add(redis, channel, "seen")
        await client.next_publication(channel)
        return position | {"offset": given.offset}


async def _until_read(node: NodeProcess, channel: str, last: Given) -> None:
    """Until a node that follows the channel has read that entry: recoveries are then answered whole."""
    async with open_client(node.url) as client:
        offset = (await client.subscribe(channel)).get("offset", 0)
        while offset < last.offset:
            offset = (await client.publications(channel, 1))[0].offset


@pytest.mark.parametrize("node_index", [0, 1], ids=["the node it left", "another node"])
async def test_what_was_missed(node_index: int, nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    missed = await add_many(redis, channel, range(50))
    await _until_read(nodes[0], channel, missed[-1])
    async with open_client(nodes[node_index].url) as client:
        result = await client.recover(channel, position)
        assert result["was_recovering"] is True
        assert result["recovered"] is True
        assert result["epoch"] == position["epoch"]
        assert result["offset"] == position["offset"]
        check(_given(result), missed)
        given = await add(redis, channel, "live")
        assert await client.publications(channel, 1) == [given]


async def test_nothing_was_missed(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    for node in nodes:
        async with open_client(node.url) as client:
            result = await client.recover(channel, position)
            assert (result["recovered"], result.get("publications", [])) == (True, [])
            assert result["offset"] == position["offset"]


async def test_joined_before_the_first_entry(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    async with open_client(nodes[0].url) as client:
        position = await client.subscribe(channel)
        assert position.get("offset", 0) == 0
        assert position["epoch"]
    written = await add_many(redis, channel, range(5))
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert result["recovered"] is True
        check(_given(result), written)


async def test_joined_before_the_first_entry_of_a_history_that_was_trimmed(
    nodes: Nodes, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with open_client(nodes[0].url) as client:
        position = await client.subscribe(channel)
    await add_many(redis, channel, range(5))
    await redis.xtrim(channel, maxlen=4, approximate=False)
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert (result["was_recovering"], result.get("recovered", False)) == (True, False)


async def test_trimmed_history_is_not_recovered(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    written = await add_many(redis, channel, range(50))
    await redis.xtrim(channel, maxlen=10, approximate=False)
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert (result["was_recovering"], result.get("recovered", False)) == (True, False)
        assert "publications" not in result
        assert result["offset"] == written[-1].offset
        assert result["epoch"] == position["epoch"]
        given = await add(redis, channel, "live")
        assert await client.publications(channel, 1) == [given]


async def test_a_deletion_among_what_is_left_does_not_hide_a_trim(
    nodes: Nodes, redis: Redis, name: Name
) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    written = await add_many(redis, channel, range(50))
    await redis.xdel(channel, f"{written[45].offset >> 12}-{written[45].offset & 4095}")
    await redis.xtrim(channel, maxlen=10, approximate=False)
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert (result["was_recovering"], result.get("recovered", False)) == (True, False)


async def test_trimmed_up_to_the_position_is_recovered(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    await add_many(redis, channel, range(50))
    position = await _leave(nodes[0], channel, redis)
    missed = await add_many(redis, channel, range(10))
    await redis.xtrim(channel, maxlen=11, approximate=False)
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert result["recovered"] is True
        check(_given(result), missed)


async def test_an_entry_deleted_on_purpose_is_no_gap(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    first = await add(redis, channel, "first")
    position = await _leave(nodes[0], channel, redis)
    kept = await add(redis, channel, "kept")
    ms, seq = position["offset"] >> 12, position["offset"] & 4095
    await redis.xdel(channel, f"{ms}-{seq}")
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position)
        assert result["recovered"] is True
        assert _given(result) == [kept]
    assert (await entries(redis, channel))[0] == first


@pytest.mark.parametrize("epoch", ["another", None])
async def test_another_epoch_is_not_recovered(
    epoch: str | None, nodes: Nodes, redis: Redis, name: Name
) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    async with open_client(nodes[1].url) as client:
        result = await client.recover(channel, position | {"epoch": epoch})
        if epoch is not None:
            assert (result["was_recovering"], result.get("recovered", False)) == (True, False)
        assert result["epoch"] == position["epoch"]


async def test_latest_recovers_with_the_newest_entry_alone(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("latest")
    position = await _leave(nodes[0], channel, redis)
    missed = await add_many(redis, channel, range(50))
    await redis.xtrim(channel, maxlen=3, approximate=False)
    for node in nodes:
        async with open_client(node.url) as client:
            result = await client.recover(channel, position)
            assert (result["was_recovering"], result["recovered"]) == (True, True)
            assert len(_given(result)) <= 1
            # What the node has yet to read of the stream follows as pushes; never something older.
            seen = [Given(position["offset"], "seen"), *_given(result)]
            while seen[-1] != missed[-1]:
                seen += await client.publications(channel, 1)
                assert seen[-1].offset > seen[-2].offset
            given = await add(redis, channel, "live")
            assert await client.publications(channel, 1) == [given]
            missed.append(given)


@pytest.mark.parametrize("windows", [67_108_864, 0], ids=["windows", "no-windows"])
async def test_more_entries_than_a_recovery_may_hold_end_in_recovered_false(
    windows: int, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    limits = {"recovery_entries": 100, "window_total_bytes": windows}
    node = await start_node(redis_process.url, {"limits": limits})
    channel = name("log")
    position = await _leave(node, channel, redis)
    missed = await add_many(redis, channel, range(100))
    await _until_read(node, channel, missed[-1])
    async with open_client(node.url) as client:
        result = await client.recover(channel, position)
        assert result["recovered"] is True
        check(_given(result), missed)
    await _until_read(node, channel, await add(redis, channel, "one too many"))
    async with open_client(node.url) as client:
        result = await client.recover(channel, position)
        assert (result["was_recovering"], result.get("recovered", False)) == (True, False)
        assert "publications" not in result


@pytest.mark.parametrize("windows", [67_108_864, 0], ids=["windows", "no-windows"])
async def test_more_bytes_than_a_recovery_may_hold_end_in_recovered_false_not_in_a_circle(
    windows: int, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    limits = {"outbox_bytes": 65_536, "window_total_bytes": windows}
    node = await start_node(redis_process.url, {"limits": limits})
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        first = await add(redis, channel, "first")
        await reader.until_offset(first.offset)
        reader.cut()
        await reader.until(lambda: not reader.subscribed, "it is cut")
        await add_many(redis, channel, ["x" * 1000 + str(number) for number in range(200)])
        await reader.until(lambda: reader.subscribed, "it is back")
        # Cut and back may come before the entries; then they come as pushes and the recovery is later.
        if not reader.unrecovered:
            # What the node has not read by then comes as pushes, and counts for no bound.
            await reader.until_data("x" * 1000 + "199")
            position = {"offset": first.offset, "epoch": reader.epochs[-1]}
            async with open_client(node.url) as client:
                result = await client.recover(channel, position)
                assert (result["was_recovering"], result.get("recovered", False)) == (True, False)
        connections = reader.connections
        await add(redis, channel, "after")
        await reader.until_data("after")
        assert reader.connections == connections
        assert 3008 not in reader.close_codes


async def test_a_recovery_within_half_the_outbox_is_delivered(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"outbox_bytes": 65_536}})
    channel = name("log")
    position = await _leave(node, channel, redis)
    missed = await add_many(redis, channel, ["x" * 1000 + str(number) for number in range(20)])
    await _until_read(node, channel, missed[-1])
    async with open_client(node.url) as client:
        result = await client.recover(channel, position)
        assert result["recovered"] is True
        check(_given(result), missed)


async def test_pretty_printed_and_bad_entries_in_a_recovery(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    position = await _leave(nodes[0], channel, redis)
    await redis.xadd(channel, {"data": '{\n  "n": 1\r\n}'})
    await redis.xadd(channel, {"data": "{bad"})
    await redis.xadd(channel, {"data": b'"\xff"'})
    await _until_read(nodes[0], channel, await add(redis, channel, {"n": 2}))
    for node in nodes:
        async with open_client(node.url) as client:
            result = await client.recover(channel, position)
            assert result["recovered"] is True
            assert [given.data for given in _given(result)] == [{"n": 1}, {"n": 2}]
            assert all("\r" not in str(message) for message in client.messages)
