"""Whatever a producer writes is delivered or counted, and the next good entry still arrives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.checker import add
from tests.support.node import NodeProcess, StartNode
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]

_UNDELIVERABLE = "streamgate_entries_undeliverable_total"


@pytest.mark.parametrize(
    ("namespace", "fields"),
    [
        ("log", {"data": "{not json"}),
        ("log", {"data": ""}),
        ("log", {"data": " "}),
        ("log", {"data": "{} {}"}),
        ("log", {"data": "NaN"}),
        ("log", {"data": "Infinity"}),
        ("log", {"data": "'single'"}),
        ("log", {"data": '{"a":1,}'}),
        ("log", {"data": "\ufeff{}"}),
        ("log", {"data": b'"\xff\xfe"'}),
        ("log", {"data": b'{"a":"\xc3"}'}),
        ("log", {"data": b"\x00\x01\x02"}),
        ("log", {"data": '"tab\there"'}),
        ("log", {"data": '"line\nbreak"'}),
        ("log", {"data": "[" * 50_000}),
        ("log", {"data": "[" * 30_000 + "]" * 30_000}),
        ("log", {"data": json.dumps("x" * 70_000)}),
        ("log", {"_info": "{}"}),
        ("log", {"_tags": "{}"}),
        ("log", {"data": "{}", "_tags": "{bad"}),
        ("log", {"data": "{}", "_tags": '{"a":1}'}),
        ("log", {"data": "{}", "_info": "[]"}),
        ("log", {"text": b"\xff"}),
        ("log", {b"\xff": "name"}),
        ("flat", {"price": "a lot"}),
        ("flat", {"price": ""}),
        ("flat", {"price": "NaN"}),
        ("flat", {"price": "1e"}),
        ("flat", {"price": "0x10"}),
        ("quotes", {"data": "{not json"}),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_an_entry_that_cannot_be_delivered_is_counted_and_skipped(
    namespace: str, fields: dict[Any, Any], node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name(namespace)
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        counted = await node.metric(_UNDELIVERABLE)
        await redis.xadd(channel, fields)
        await redis.xadd(channel, {"data": '"good"'})
        assert await client.next_data(channel) == "good"
        assert await node.metric(_UNDELIVERABLE) == counted + 1
    # Nor does it stop a join: with a snapshot, the newest that can be delivered.
    await redis.xadd(channel, fields)
    async with open_client(node.url) as client:
        joined = await client.subscribe(channel)
        if namespace == "quotes":
            shown = joined.get("publications") or [await client.next_publication(channel)]
            assert shown[0]["data"] == "good"
        await redis.xadd(channel, {"data": '"next"'})
        assert await client.next_data(channel) == "next"


@pytest.mark.parametrize(
    "data",
    [
        '{\n  "a": 1,\n  "b": [\n    1,\n    2\n  ]\n}\n',
        '{\r\n  "a": 1,\r\n  "b": [\r\n    1,\r\n    2\r\n  ]\r\n}',
        '\r{\r"a"\r:\r1,"b":[1,2]}\r',
    ],
)
async def test_pretty_printed_json_is_one_publication(
    data: str, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await redis.xadd(channel, {"data": data})
        assert await client.next_data(channel) == {"a": 1, "b": [1, 2]}
        # SDKs split frames at \n and read each line by itself, some at \r too.
        assert "\r" not in str(client.messages[-1])
        [line] = str(client.messages[-1]).strip("\n").split("\n")
        assert json.loads(line)["push"]["pub"]["data"] == {"a": 1, "b": [1, 2]}


@pytest.mark.parametrize(
    "data", ["null", "0", '""', "[]", "{}", "true", "-0.0", '"\\ud83d\\ude00"', '{"a":1,"a":2}']
)
async def test_any_json_is_passed_through_as_it_is(
    data: str, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await redis.xadd(channel, {"data": data})
        push = await client.next_push()
        assert f'"data":{data}' in str(client.messages[-1]).replace(" ", ""), push


async def test_names_in_flat_fields_are_escaped(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("flat")
    fields: dict[Any, Any] = {
        'quote"d': 'va"l\\ue',
        "new\nline": "a\r\nb",
        "": "empty name",
        "data": "{not special here",
    }
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await redis.xadd(channel, fields)
        assert await client.next_data(channel) == fields


async def test_a_key_that_is_not_a_stream(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel, good = name("log"), name("log")
    await redis.set(channel, "a string")
    async with open_client(node.url) as client:
        await client.subscribe(good)
        for method in ("subscribe", "history"):
            error = await client.error(method, channel=channel)
            assert error["code"] in (100, 108), method
        await add(redis, good, "still here")
        assert await client.next_data(good) == "still here"
        await redis.delete(channel)

        async def joined() -> bool:
            return "error" not in await client.command("subscribe", channel=channel)

        await eventually(joined, "the channel can be joined")
        await add(redis, channel, "a stream now")
        assert await client.next_data(channel) == "a stream now"


async def test_publishing_to_a_key_that_is_not_a_stream(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    await redis.set(channel, "a string")
    async with open_client(node.url) as client:
        error = await client.error("publish", channel=channel, data=1)
        assert error["code"] in (100, 108)
        await redis.delete(channel)
        await client.call("publish", channel=channel, data=1)


async def test_a_followed_stream_replaced_by_another_type(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"redis": {"sweep_seconds": 0.2}})
    channel, good = name("log"), name("log")
    async with open_client(node.url) as client, Reader([node.url], channel) as reader:
        await client.subscribe(good)
        first = await add(redis, channel, "first")
        await reader.until_offset(first.offset)
        await redis.delete(channel)
        await redis.rpush(channel, "a list")
        for number in range(20):
            await add(redis, good, number)
            assert await client.next_data(good) == number
        await redis.delete(channel)
        await add(redis, channel, "a stream again")
        await reader.until(lambda: bool(reader.unrecovered) and reader.subscribed, "it was told")
        await add(redis, channel, "goes on")
        await reader.until_data("goes on")
        assert reader.connections == 1


@pytest.mark.parametrize("entry_id", [f"{2**41}-0", "18446744073709551615-0"])
async def test_ids_beyond_what_an_offset_can_hold(
    entry_id: str, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel, good = name("log"), name("log")
    await redis.xadd(channel, {"data": "1"}, id=entry_id)
    async with open_client(node.url) as client:
        await client.subscribe(good)
        assert (await client.error("subscribe", channel=channel))["code"] == 108
        assert (await client.error("history", channel=channel, limit=1))["code"] == 108
        await add(redis, good, "still here")
        assert await client.next_data(good) == "still here"


async def test_a_followed_stream_whose_ids_leap_beyond(node: NodeProcess, redis: Redis, name: Name) -> None:
    """Counted, and the other channels go on."""
    channel, good = name("log"), name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.subscribe(good)

        async def count() -> float:
            metrics = await node.metrics()
            return metrics.get(_UNDELIVERABLE, 0) + metrics.get("streamgate_tail_errors_total", 0)

        before = await count()
        await redis.xadd(channel, {"data": "1"}, id=f"{2**41}-0")

        async def is_counted() -> bool:
            return await count() > before

        await eventually(is_counted, "the entry is counted")
        await add(redis, good, "still here")
        pushes = [await client.next_push()]
        while pushes[-1]["channel"] != good:
            pushes.append(await client.next_push())
        assert pushes[-1]["pub"]["data"] == "still here"
        assert not any("pub" in push for push in pushes[:-1])


async def test_nobody_is_told_about_a_thousand_bad_entries_a_thousand_times(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        pipeline = redis.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.xadd(channel, {"data": "{bad"})
        await pipeline.execute()
        await add(redis, channel, "good")
        assert await client.next_data(channel) == "good"
        assert await node.metric(_UNDELIVERABLE) == 1000
    assert 1 <= node.log.count(channel) <= 2, node.log
