"""What is written to a stream reaches every subscriber, on whichever node, and the commands around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries, offset_of
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import Json, open_client

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


async def test_the_connect_result(node: NodeProcess) -> None:
    async with open_client(node.url, connect=False) as client:
        result = await client.connect(name="test", version="1")
        assert result["client"]
        assert result["version"]
        assert result["ping"] == 25
        assert result["pong"] is True
        assert "expires" not in result


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


class TestHistory:
    def _given(self, result: Json) -> list[Given]:
        return [Given(publication["offset"], publication["data"]) for publication in result["publications"]]

    async def test_position_only(self, node: NodeProcess, redis: Redis, name: Name) -> None:
        channel = name("log")
        written = await add_many(redis, channel, range(10))
        async with open_client(node.url) as client:
            result = await client.call("history", channel=channel)
            assert result.get("publications", []) == []
            assert result["offset"] == written[-1].offset
            assert result["epoch"]

    async def test_all_and_pages_and_reverse(self, node: NodeProcess, redis: Redis, name: Name) -> None:
        channel = name("log")
        written = await add_many(redis, channel, range(10))
        async with open_client(node.url) as client:
            result = await client.call("history", channel=channel, limit=-1)
            assert self._given(result) == written
            since = {"offset": written[3].offset, "epoch": result["epoch"]}
            page = await client.call("history", channel=channel, limit=3, since=since)
            assert self._given(page) == written[4:7]
            newest = await client.call("history", channel=channel, limit=2, reverse=True)
            assert self._given(newest) == written[:-3:-1]
            older = await client.call("history", channel=channel, limit=2, reverse=True, since=since)
            assert self._given(older) == [written[2], written[1]]

    async def test_of_another_life_of_the_stream(self, node: NodeProcess, redis: Redis, name: Name) -> None:
        channel = name("log")
        written = await add_many(redis, channel, range(10))
        async with open_client(node.url) as client:
            since = {"offset": written[3].offset, "epoch": "another"}
            assert (await client.error("history", channel=channel, limit=3, since=since))["code"] == 112

    async def test_a_page_never_ends_inside_a_saturated_run(
        self, node: NodeProcess, redis: Redis, name: Name
    ) -> None:
        channel = name("log")
        for seq in range(4090, 4110):
            await redis.xadd(channel, {"data": str(seq)}, id=f"7-{seq}")
        await redis.xadd(channel, {"data": "1"}, id="8-0")
        async with open_client(node.url) as client:
            seen: list[object] = []
            params: Json = {}
            for _ in range(10):
                result = await client.call("history", channel=channel, limit=7, **params)
                page = result.get("publications", [])
                seen += [publication["data"] for publication in page]
                if page:
                    params["since"] = {"offset": page[-1]["offset"], "epoch": result["epoch"]}
                if not page or 1 in seen:
                    break
            # Twice is allowed within the run, less than once is not.
            assert sorted(set(seen), key=str) == sorted([*range(4090, 4110), 1], key=str)


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


async def test_pings_are_answered(start_node: StartNode, redis_process: RedisProcess, name: Name) -> None:
    node = await start_node(redis_process.url, {"client": {"ping_seconds": 1, "pong_seconds": 1}})
    async with open_client(node.url) as client, open_client(node.url, answer_pings=False) as silent:
        assert client.hello["ping"] == 1
        assert (await silent.closed())[0] == 3012
        await client.pinged()
        await client.pinged()
        await client.call("history", channel=name("log"))  # still welcome


async def test_a_connection_that_says_nothing_is_closed(
    start_node: StartNode, redis_process: RedisProcess
) -> None:
    node = await start_node(redis_process.url, {"client": {"connect_seconds": 1}})
    async with open_client(node.url, connect=False) as client:
        assert (await client.closed())[0] == 3502


@pytest.mark.parametrize("subprotocols", [None, ["centrifuge-json"]])
async def test_json_with_and_without_a_subprotocol(node: NodeProcess, subprotocols: list[str] | None) -> None:
    async with open_client(node.url, subprotocols=subprotocols) as client:
        assert client.connection.subprotocol == (subprotocols[0] if subprotocols else None)


async def test_an_empty_subprotocol_header_is_accepted(node: NodeProcess) -> None:
    async with open_client(node.url, additional_headers={"Sec-WebSocket-Protocol": ""}) as client:
        assert client.hello["client"]


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


async def test_a_namespace_that_allows_no_client_to_publish_is_the_default(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    node = await start_node(redis_process.url, {"namespaces": {"bare": {}}})
    async with open_client(node.url) as client:
        assert (await client.error("publish", channel=name("bare"), data=1))["code"] == 103


async def test_unsubscribed_means_silence(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel, other = name("log"), name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.subscribe(other)
        await client.call("unsubscribe", channel=channel)
        await add(redis, channel, "gone")
        await add(redis, other, "here")
        assert await client.next_data(other) == "here"
