"""What clients ask for and how it is answered: commands together, publishes, presence."""

from __future__ import annotations

import json
from collections.abc import Callable

from redis.asyncio import Redis

from tests.support.checker import add, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]


async def test_one_frame_may_hold_several_commands(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel, other = name("log"), name("log")
    async with open_client(node.url, connect=False) as client:
        commands = [
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": channel}},
            {"id": 3, "subscribe": {"channel": other}},
            {"id": 4, "subscribe": {"channel": "nowhere:x"}},
            {"id": 5, "unsubscribe": {"channel": other}},
        ]
        await client.send_raw("\n".join(json.dumps(command) for command in commands) + "\n")
        replies = [await client.reply(number) for number in range(1, 6)]
        assert "connect" in replies[0]
        assert replies[1]["subscribe"]["recoverable"] is True
        assert "subscribe" in replies[2]
        assert replies[3]["error"]["code"] == 102
        assert replies[4] == {"id": 5, "unsubscribe": {}}
        await add(redis, other, "unsubscribed")
        await add(redis, channel, "subscribed")
        assert await client.next_data(channel) == "subscribed"


async def test_commands_on_one_channel_run_in_order(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as client:
        lines = []
        for number in range(10, 40):
            method = "subscribe" if number % 2 == 0 else "unsubscribe"
            lines.append(json.dumps({"id": number, method: {"channel": channel}}))
        lines.append(json.dumps({"id": 40, "subscribe": {"channel": channel}}))
        lines += [
            json.dumps({"id": 41 + n, "publish": {"channel": channel, "data": {"n": n}}}) for n in range(20)
        ]
        await client.send_raw("\n".join(lines))
        for number in range(10, 61):
            assert "error" not in await client.reply(number), number
        heard = await client.publications(channel, 20)
        assert [given.data for given in heard] == [{"n": n} for n in range(20)]


async def test_a_client_publishes_and_hears_itself_once(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("chat")
    async with open_client(nodes[0].url) as author, open_client(nodes[1].url) as other:
        await author.subscribe(channel)
        await other.subscribe(channel)
        assert await author.call("publish", channel=channel, data={"text": 'hi\n"there"'}) == {}
        assert await author.next_data(channel) == {"text": 'hi\n"there"'}
        assert await other.next_data(channel) == {"text": 'hi\n"there"'}
        await author.call("publish", channel=channel, data=2)
        assert await author.next_data(channel) == 2
        assert await redis.xlen(channel) == 2


async def test_publishing_needs_no_subscription(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.call("publish", channel=channel, data=[1, "two", None])
        assert client.pushes_now() == []
    assert [given.data for given in await entries(redis, channel)] == [[1, "two", None]]


async def test_a_namespace_that_allows_no_client_to_publish_is_the_default(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    node = await start_node(redis_process.url, {"namespaces": {"bare": {}}})
    async with open_client(node.url) as client:
        assert (await client.error("publish", channel=name("bare"), data=1))["code"] == 103


async def test_presence_tells_who_is_here(node: NodeProcess, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as a, open_client(node.url) as b:
        await a.subscribe(channel)
        await b.subscribe(channel)
        present = (await a.call("presence", channel=channel))["presence"]
        assert set(present) == {a.hello["client"], b.hello["client"]}
        assert all(info["client"] == key for key, info in present.items())
        assert (await a.call("presence_stats", channel=channel))["num_clients"] == 2
        await b.call("unsubscribe", channel=channel)
        assert (await a.call("presence_stats", channel=channel))["num_clients"] == 1
        await a.call("unsubscribe", channel=channel)


async def test_a_client_that_vanishes_leaves_nothing_behind(node: NodeProcess, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as watcher:
        await watcher.subscribe(channel)
        async with open_client(node.url) as ghost:
            await ghost.subscribe(channel)
            ghost.cut()
            await ghost.closed()

        async def alone() -> bool:
            stats = await watcher.call("presence_stats", channel=channel)
            return bool(stats["num_clients"] == 1)

        await eventually(alone, "the ghost is gone from presence")
