"""The connection itself: its beginning, its subprotocol, its pings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import open_client

Name = Callable[[str], str]


async def test_the_connect_result(node: NodeProcess) -> None:
    async with open_client(node.url, connect=False) as client:
        result = await client.connect(name="test", version="1")
        assert result["client"]
        assert result["version"]
        assert result["ping"] == 25
        assert result["pong"] is True
        assert "expires" not in result


@pytest.mark.parametrize("subprotocols", [None, ["centrifuge-json"]])
async def test_json_with_and_without_a_subprotocol(node: NodeProcess, subprotocols: list[str] | None) -> None:
    async with open_client(node.url, subprotocols=subprotocols) as client:
        assert client.connection.subprotocol == (subprotocols[0] if subprotocols else None)


async def test_an_empty_subprotocol_header_is_accepted(node: NodeProcess) -> None:
    async with open_client(node.url, additional_headers={"Sec-WebSocket-Protocol": ""}) as client:
        assert client.hello["client"]


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
