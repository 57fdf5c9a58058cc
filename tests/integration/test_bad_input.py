"""Whatever a client sends is answered as the protocol says, and costs nobody else anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.checker import add
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import Closed, open_client

Name = Callable[[str], str]


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "{",
        "[]",
        "null",
        "1",
        '"connect"',
        '{"id":1}{"id":2}',
        '{"id":1,"connect":{}',
        '{"id":"1","connect":{}}',
        '{"id":-1,"connect":{}}',
        '{"id":1.5,"connect":{}}',
        '{"connect":{}}',
        '{"id":0,"connect":{}}',
        '{"id":1,"subscribe":{"channel":"log:x"}}',
        '{"id":1,"connect":{}}\nnot json',
        "[" * 100_000,
    ],
    ids=lambda message: message[:30],
)
async def test_a_first_message_that_is_no_connect_command(node: NodeProcess, message: str) -> None:
    async with open_client(node.url, connect=False) as client:
        await client.send_raw(message)
        assert (await client.closed())[0] == 3501
    async with open_client(node.url) as client:
        assert client.hello["client"]


@pytest.mark.parametrize("params", [[], 1, "hi", True])
async def test_a_connect_command_of_the_wrong_type(node: NodeProcess, params: Any) -> None:
    """Error 107, or a close with 3501; it is not connected."""
    async with open_client(node.url, connect=False) as client:
        await client.send_raw(json.dumps({"id": 1, "connect": params}))
        try:
            assert (await client.reply(1))["error"]["code"] == 107
        except Closed:
            pass
        else:
            await client.send_raw('{"id":2,"subscribe":{"channel":"log:x"}}')
        assert (await client.closed())[0] == 3501


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "7",
        '{"id":9,"subscribe":{"channel":"log:x"}}\n{"id":',
        '{"id":"9","subscribe":{"channel":"log:x"}}',
        '{"id":0,"subscribe":{"channel":"log:x"}}',
        '{"subscribe":{"channel":"log:x"}}',
        '{"id":9,"connect":{}}',
    ],
)
async def test_a_later_message_that_is_no_command(node: NodeProcess, message: str) -> None:
    async with open_client(node.url) as client:
        await client.send_raw(message)
        assert (await client.closed())[0] == 3501


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscribe", {"channel": 5}),
        ("subscribe", {"channel": None}),
        ("subscribe", {"channel": ["log:x"]}),
        ("subscribe", {"channel": {"log": "x"}}),
        ("subscribe", {}),
        ("subscribe", []),
        ("subscribe", "log:x"),
        ("subscribe", {"channel": "log:x", "recover": "yes"}),
        ("subscribe", {"channel": "log:x", "recover": True, "epoch": 5}),
        ("subscribe", {"channel": "log:x", "recover": True, "epoch": "e", "offset": {}}),
        ("unsubscribe", {"channel": 5}),
        ("publish", {"channel": 5, "data": 1}),
        ("publish", {"channel": "chat:x"}),
        ("history", {"channel": "log:x", "limit": "all"}),
        ("history", {"channel": "log:x", "limit": 1, "since": 5}),
        ("history", {"channel": "log:x", "limit": 1, "since": {"offset": "x"}}),
        ("history", {"channel": "log:x", "limit": -2}),
        ("presence", {"channel": 5}),
    ],
)
async def test_wrong_types(node: NodeProcess, method: str, params: Any) -> None:
    """Error 107 to the command, or a close with 3501; the node goes on."""
    async with open_client(node.url) as client:
        number = client.next_id()
        await client.send_raw(json.dumps({"id": number, method: params}))
        try:
            reply = await client.reply(number)
        except Closed:
            assert (await client.closed())[0] == 3501
        else:
            # Nothing is the same as an empty channel name, and that breaks the grammar.
            nothing = params == {} or params == {"channel": None}
            assert reply["error"]["code"] in ((102, 107) if nothing else (107,)), reply
    async with open_client(node.url) as client:
        assert client.hello["client"]


async def test_an_unknown_method(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        assert (await client.error("dance"))["code"] == 104
        number = client.next_id()
        await client.send_raw(json.dumps({"id": number}))
        assert (await client.reply(number))["error"]["code"] in (104, 107)
        await add(redis, channel, "still here")
        assert await client.next_data(channel) == "still here"


async def test_unknown_fields_are_passed_over(node: NodeProcess, name: Name) -> None:
    async with open_client(node.url) as client:
        result = await client.subscribe(name("log"), frobnicate=True, flag=1, join_leave=True, tf=None)
        assert result["recoverable"] is True


async def test_rpc_and_send(node: NodeProcess, name: Name) -> None:
    async with open_client(node.url) as client:
        assert (await client.error("rpc", method="x", data={}))["code"] == 104
        await client.send_raw('{"send":{"data":{"fire":"and forget"}}}')
        answer = await client.call("history", channel=name("log"))  # nothing else was answered
        assert answer == {"epoch": "", "offset": 0}
        assert len(client.messages) == 3


async def test_a_message_beyond_the_limit(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"message_bytes": 4096, "publication_bytes": 1024}})
    async with open_client(node.url) as client:
        await client.send_raw(" " * 4000 + "{}")
        assert (await client.error("publish", channel=name("chat"), data="x" * 1100))["code"] in (106, 107)
        await client.call("publish", channel=name("chat"), data="x" * 1000)
        await client.send_raw(" " * 5000 + "{}")
        assert (await client.closed())[0] == 1009
    async with open_client(node.url) as client:
        # In fragments it is the same message.
        await client.connection.send(" " * 1000 for _ in range(5))
        assert (await client.closed())[0] == 1009


async def test_a_binary_frame_on_a_json_connection(node: NodeProcess) -> None:
    async with open_client(node.url) as client:
        await client.send_raw(b'{"id":9,"rpc":{}}')
        assert (await client.closed())[0] == 3506


class TestChannels:
    @pytest.mark.parametrize(
        "channel",
        [
            "nowhere:x",
            "no-namespace",
            "LOG:x",
            "log:",
            ":x",
            ":",
            "streamgate:presence",
            "log:*",
            "log:a?",
            "log:[ab]",
            "log:{a}",
            "log:a\\b",
            "log:a b",
            "log:a\tb",
            "log:a\nb",
            "log:\u0000",
            "log:\u0085",
            "log:\u00a0x",
            "log:\u2028x",
            "log:" + "x" * 252,
            "log:" + "é" * 126,
            " log:x",
        ],
    )
    @pytest.mark.parametrize("method", ["subscribe", "publish", "history", "presence"])
    async def test_a_name_that_is_none(self, node: NodeProcess, channel: str, method: str) -> None:
        params = {"data": 1} if method == "publish" else {}
        async with open_client(node.url) as client:
            assert (await client.error(method, channel=channel, **params))["code"] == 102

    async def test_half_a_surrogate_pair(self, node: NodeProcess) -> None:
        async with open_client(node.url) as client:
            await client.send_raw('{"id":1000,"subscribe":{"channel":"log:\\ud800"}}')
            try:
                assert (await client.reply(1000))["error"]["code"] in (102, 107)
            except Closed:
                assert (await client.closed())[0] == 3501

    @pytest.mark.parametrize(
        "rest", ["x" * 251, "é" * 125, "a:b:c", "AAPL/USD", "-", "日本", "a'b\"c", "<b>", "%s%n", "a,b;c"]
    )
    async def test_a_name_that_is_odd_but_fine(self, node: NodeProcess, redis: Redis, rest: str) -> None:
        channel = f"log:{rest}"
        async with open_client(node.url) as client:
            await client.subscribe(channel)
            await add(redis, channel, "here")
            assert await client.next_data(channel) == "here"
        await redis.delete(channel)

    async def test_an_empty_name(self, node: NodeProcess) -> None:
        async with open_client(node.url) as client:
            assert (await client.error("subscribe", channel=""))["code"] in (102, 107)

    async def test_what_is_not_allowed(self, node: NodeProcess, redis: Redis, name: Name) -> None:
        closed, log = name("closed"), name("log")
        async with open_client(node.url) as client:
            for method, channel, params in (
                ("subscribe", closed, {}),
                ("history", closed, {}),
                ("publish", closed, {"data": 1}),
                ("publish", log, {"data": 1}),
                ("presence", log, {}),
                ("presence_stats", log, {}),
            ):
                error = await client.error(method, channel=channel, **params)
                assert error["code"] in ((103, 108) if "presence" in method else (103,)), method
                assert not error.get("temporary"), method
        assert await redis.exists(closed, log) == 0

    async def test_twice(self, node: NodeProcess, redis: Redis, name: Name) -> None:
        channel = name("log")
        async with open_client(node.url) as client:
            await client.subscribe(channel)
            assert (await client.error("subscribe", channel=channel))["code"] == 105
            await add(redis, channel, "once")
            await add(redis, channel, "end")
            assert [await client.next_data(channel) for _ in range(2)] == ["once", "end"]

    async def test_unsubscribing_from_what_it_does_not_have(self, node: NodeProcess, name: Name) -> None:
        async with open_client(node.url) as client:
            assert await client.call("unsubscribe", channel=name("log")) == {}


@pytest.mark.parametrize(
    "data", [None, True, 0, -1.5e300, "", "\u2028\u2029", "\r\n", "\u0000", [], {}, {"a": {"b": [1]}}, "ü😀"]
)
async def test_any_json_may_be_published(node: NodeProcess, name: Name, data: Any) -> None:
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        if data is None:
            # Zero values are omitted: null is no data.
            reply = await client.command("publish", channel=channel, data=data)
            assert reply.get("error", {}).get("code", 107) == 107
            return
        await client.call("publish", channel=channel, data=data)
        assert await client.next_data(channel) == data


async def test_pretty_printed_json_published_is_one_line(node: NodeProcess, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        # A frame's lines are commands, so line breaks inside a command cannot come from SDKs; a carriage
        # return can.
        command = json.dumps({"id": 900, "publish": {"channel": channel, "data": {"a": 1}}})
        await client.send_raw(command.replace(" ", "\r"))
        await client.reply(900)
        assert await client.next_data(channel) == {"a": 1}
        assert not any("\r" in str(message) for message in client.messages)
