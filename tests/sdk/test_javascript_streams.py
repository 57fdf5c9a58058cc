"""The official JavaScript SDK, unmodified, where it has to do without WebSockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.sdk.javascript import Sdk
from tests.support.checker import add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.redis_process import RedisProcess

Name = Callable[[str], str]

pytestmark = [
    pytest.mark.node,
    pytest.mark.timeout(360),  # the first one installs
    pytest.mark.parametrize("transport", ["sse", "http_stream"]),
    pytest.mark.parametrize("sdk", ["json"], indirect=True),  # Protobuf is answered with 415
]


def _ways(transport: str, stream_port: int, emulation_port: int) -> dict[str, Any]:
    """Where the SDK connects to, and where it sends to."""
    endpoint = f"http://127.0.0.1:{stream_port}/connection/{transport}"
    return {
        "url": [{"transport": transport, "endpoint": endpoint}],
        "options": {"emulationEndpoint": f"http://127.0.0.1:{emulation_port}/emulation"},
    }


@pytest.mark.parametrize("by", [0, 1], ids=["the same node", "another node"])
async def test_connect_subscribe_publish(
    sdk: Sdk, nodes: tuple[NodeProcess, NodeProcess], redis: Redis, name: Name, transport: str, by: int
) -> None:
    channel = name("chat")
    await sdk.tell("connect", **_ways(transport, nodes[0].port, nodes[by].port))
    await sdk.tell("subscribe", channel=channel)
    assert (await sdk.until_event("connected"))["transport"] == transport
    assert (await sdk.until_event("subscribed"))["recoverable"] is True
    await add(redis, channel, {"by": "XADD"})
    await sdk.until_data({"by": "XADD"})
    assert (await sdk.call("publish", channel=channel, data={"text": "a\nb\u2028c"}))["event"] == "result"
    history = (await sdk.call("history", channel=channel, options={"limit": 5}))["result"]
    assert [(item["offset"], item["data"]) for item in history["publications"]] == await entries(
        redis, channel
    )
    await add(redis, channel, "end")
    await sdk.until_data("end")
    check(sdk.received[channel], await entries(redis, channel))
    await sdk.tell("unsubscribe", channel=channel)
    await sdk.until_event("unsubscribed")
    await sdk.tell("disconnect")
    assert (await sdk.until_event("disconnected"))["code"] == 0


async def test_cuts_are_recovered_from(
    sdk: Sdk, node: NodeProcess, redis: Redis, name: Name, transport: str
) -> None:
    channel = name("log")
    async with Proxy(node.port) as proxy:
        await sdk.tell("connect", **_ways(transport, proxy.port, proxy.port))
        await sdk.tell("subscribe", channel=channel)
        await sdk.until_event("subscribed")
        for number in range(3):
            await add(redis, channel, f"before cut {number}")
            await sdk.until_data(f"before cut {number}")
            proxy.close_door()
            await add_many(redis, channel, ([number, n] for n in range(20)))
            proxy.open_door()
            subscribed = await sdk.until_event("subscribed")
            assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
        await add(redis, channel, "end")
        await sdk.until_data("end")
    check(sdk.received[channel], await entries(redis, channel))


async def test_pings_are_answered_and_a_drain_is_understood(
    sdk: Sdk, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name, transport: str
) -> None:
    channel = name("log")
    node = await start_node(redis_process.url, {"client": {"ping_seconds": 1, "pong_seconds": 1}})
    await sdk.tell("connect", **_ways(transport, node.port, node.port))
    await sdk.tell("subscribe", channel=channel)
    await sdk.until_event("subscribed")

    async def pongs() -> float:
        return await node.metric("streamgate_emulated_total", result="here")

    before = await pongs()
    number = 0
    while await pongs() < before + 3:
        number += 1
        await add(redis, channel, number)
        await sdk.until_data(number)
    node.terminate()
    assert (await sdk.until_event("connecting"))["code"] == 3001
    assert not [event for event in sdk.passed if event["event"] == "connecting" and event["code"] != 0]
