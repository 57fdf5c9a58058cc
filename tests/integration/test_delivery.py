"""What is written to a stream reaches every subscriber, on whichever node, as what it was written as."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from redis.asyncio import Redis

from tests.support.checker import add, add_many, check, offset_of
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]


async def test_every_subscriber_on_every_node_gets_every_entry(
    nodes: Nodes, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with open_client(nodes[0].url) as a, open_client(nodes[0].url) as b, open_client(nodes[1].url) as c:
        for client in (a, b, c):
            await client.subscribe(channel)
        written = [await add(redis, channel, {"n": 0})]  # alone: no batch to hide behind
        written += await add_many(redis, channel, [{"n": n} for n in range(1, 300)])
        for client in (a, b, c):
            check(await client.publications(channel, len(written)), written)


async def test_channels_do_not_mix(node: NodeProcess, redis: Redis, name: Name) -> None:
    first, second = name("log"), name("log")
    async with open_client(node.url) as client:
        await client.subscribe(first)
        await add(redis, second, "not for this client")
        await add(redis, first, "for this client")
        assert await client.next_data(first) == "for this client"
        await client.subscribe(second)
        await add(redis, second, "now it is")
        assert await client.next_data(second) == "now it is"


async def test_a_snapshot_comes_with_the_subscription(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("quotes")
    await add(redis, channel, {"price": 1})
    last = await add(redis, channel, {"price": 2})
    async with open_client(node.url) as client:
        result = await client.subscribe(channel)
        shown = result.get("publications") or [await client.next_publication(channel)]
        assert [publication["data"] for publication in shown] == [{"price": 2}]
        assert shown[0]["tags"] == {"snapshot": "true"}
        assert result["offset"] == last.offset
        new = await add(redis, channel, {"price": 3})
        publication = await client.next_publication(channel)
        assert (publication["offset"], publication["data"]) == new
        assert "snapshot" not in publication.get("tags", {})


async def test_no_snapshot_of_an_empty_channel(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("quotes")
    async with open_client(node.url) as client:
        result = await client.subscribe(channel)
        assert result.get("publications", []) == []
        await add(redis, channel, {"price": 3})
        publication = await client.next_publication(channel)
        assert publication["data"] == {"price": 3}
        assert "tags" not in publication


async def test_a_log_channel_has_no_snapshot_unless_asked_for(
    node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    await add(redis, channel, "before")
    async with open_client(node.url) as client:
        assert "publications" not in await client.subscribe(channel)
        await add(redis, channel, "after")
        assert await client.next_data(channel) == "after"


async def test_flat_fields_become_an_object(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("flat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await redis.xadd(channel, {"symbol": "AAPL", "price": "189.30", "note": "42"})
        assert await client.next_data(channel) == {"symbol": "AAPL", "price": 189.3, "note": "42"}


async def test_reserved_fields_are_info_and_tags(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    info = {"user": "7", "client": "abc"}
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await redis.xadd(
            channel, {"data": '{"n":1}', "_info": json.dumps(info), "_tags": json.dumps({"kind": "goal"})}
        )
        publication = await client.next_publication(channel)
        assert publication["data"] == {"n": 1}
        assert publication["info"] == info
        assert publication["tags"] == {"kind": "goal"}


async def test_offsets_are_those_of_the_stream(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        for entry_id in ("5-0", "5-1", "5-4095", "5-4096", "5-9999", "6-0"):
            await redis.xadd(channel, {"data": f'"{entry_id}"'}, id=entry_id)
            publication = await client.next_publication(channel)
            assert (publication["offset"], publication["data"]) == (offset_of(entry_id), entry_id)


async def test_hundreds_of_channels_on_one_connection(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"subscriptions": 500}})
    channels = [name("log") for _ in range(300)]
    async with open_client(node.url) as client:
        await asyncio.gather(*(client.subscribe(channel) for channel in channels))
        for channel in channels:
            await add(redis, channel, channel)
        pushed = [await client.next_push() for _ in channels]
        assert sorted(push["pub"]["data"] for push in pushed) == sorted(channels)
        assert all(push["channel"] == push["pub"]["data"] for push in pushed)


async def test_unsubscribed_means_silence(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel, other = name("log"), name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.subscribe(other)
        await client.call("unsubscribe", channel=channel)
        await add(redis, channel, "gone")
        await add(redis, other, "here")
        assert await client.next_data(other) == "here"
