"""Bounds that keep one client from hurting the others, each with the answer the protocol gives it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from websockets.exceptions import InvalidStatus

from tests.support.checker import add
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import dial, open_client

Name = Callable[[str], str]


async def test_connections_per_node(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"limits": {"connections": 2}})
    async with open_client(node.url):
        async with open_client(node.url):
            with pytest.raises(InvalidStatus) as refused:
                await dial(node.url)
            assert refused.value.response.status_code == 503
            assert await node.metric("streamgate_admission_rejected_total") == 1
            assert await node.ready()  # a full node is no broken node

        async def one_left() -> bool:
            return await node.metric("streamgate_connections") == 1

        await eventually(one_left, "the second connection is gone")
        async with open_client(node.url) as third:
            assert third.hello["client"]


async def test_subscriptions_per_session(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"subscriptions": 2}})
    first, second, third = (name("log") for _ in range(3))
    async with open_client(node.url) as client:
        await client.subscribe(first)
        await client.subscribe(second)
        assert (await client.error("subscribe", channel=third))["code"] == 106
        await client.call("unsubscribe", channel=first)
        await client.subscribe(third)
        await add(redis, third, "here")
        assert await client.next_data(third) == "here"


async def test_subscriptions_asked_for_at_once_count_too(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"subscriptions": 3}})
    async with open_client(node.url) as client:
        numbers = [client.next_id() for _ in range(10)]
        await client.send_raw(
            "\n".join(json.dumps({"id": n, "subscribe": {"channel": name("log")}}) for n in numbers)
        )
        replies = [await client.reply(number) for number in numbers]
        assert sum("error" not in reply for reply in replies) == 3
        assert {reply["error"]["code"] for reply in replies if "error" in reply} == {106}


async def test_commands_beyond_the_rate(start_node: StartNode, redis_process: RedisProcess) -> None:
    limits = {"commands_per_second": 1, "commands_burst": 20, "subscriptions": 20}
    node = await start_node(redis_process.url, {"limits": limits})
    async with open_client(node.url) as client:
        for _ in range(15):
            assert (await client.error("rpc", method="x"))["code"] == 104
        await client.send_raw("\n".join(json.dumps({"id": 100 + n, "rpc": {}}) for n in range(50)))
        assert (await client.closed())[0] == 3509
    async with open_client(node.url) as client:
        assert client.hello["client"]


async def test_publications_beyond_the_size(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"publication_bytes": 1000}})
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        assert (await client.error("publish", channel=channel, data="x" * 999))["code"] in (106, 107)
        await client.call("publish", channel=channel, data="x" * 998)
        assert await client.next_data(channel) == "x" * 998
    assert await redis.xlen(channel) == 1


async def test_many_commands_in_flight_are_all_answered(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    """Beyond the bound reading pauses; nothing is refused and nothing is forgotten."""
    node = await start_node(redis_process.url, {"limits": {"commands_in_flight": 4}})
    channel = name("chat")
    async with open_client(node.url) as client:
        numbers = [client.next_id() for _ in range(300)]
        for number in numbers:
            await client.send_raw(json.dumps({"id": number, "publish": {"channel": channel, "data": number}}))
        for number in numbers:
            assert "error" not in await client.reply(number)
    assert await redis.xlen(channel) == 300


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([], None, True),
        ([], "http://evil.example", False),
        ([], "http://127.0.0.1:{port}", True),
        (["https://app.example"], "https://app.example", True),
        (["https://app.example"], "https://app.example.evil.example", False),
        (["https://app.example"], "http://app.example", False),
        (["*"], "http://anything.example", True),
        ([], "null", False),
    ],
)
async def test_origins(
    origins: list[str],
    origin: str | None,
    allowed: bool,
    start_node: StartNode,
    redis_process: RedisProcess,
    node: NodeProcess,
) -> None:
    if origins:
        node = await start_node(redis_process.url, {"server": {"allowed_origins": origins}})
    headers = {} if origin is None else {"Origin": origin.format(port=node.port)}
    if allowed:
        async with open_client(node.url, additional_headers=headers) as client:
            assert client.hello["client"]
    else:
        with pytest.raises(InvalidStatus) as refused:
            await dial(node.url, additional_headers=headers)
        assert refused.value.response.status_code == 403
