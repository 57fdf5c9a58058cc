"""The official JavaScript SDK, unmodified: connect, subscribe, publish, recover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.sdk.javascript import Sdk
from tests.support.checker import add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.redis_process import RedisProcess

pytestmark = [pytest.mark.node, pytest.mark.timeout(360)]  # the first one installs

Name = Callable[[str], str]


async def test_connect_subscribe_publish(sdk: Sdk, node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    await sdk.tell("connect", url=node.url)
    await sdk.tell("subscribe", channel=channel)
    connected = await sdk.until_event("connected")
    assert connected["client"]
    subscribed = await sdk.until_event("subscribed")
    assert subscribed["recoverable"] is True
    assert subscribed["epoch"]
    await add(redis, channel, {"by": "XADD"})
    await sdk.until_data({"by": "XADD"})
    assert (await sdk.call("publish", channel=channel, data={"text": "a\nb\u2028c"}))["event"] == "result"
    await add(redis, channel, "end")
    await sdk.until_data("end")
    check(sdk.received[channel], await entries(redis, channel))
    await sdk.tell("unsubscribe", channel=channel)
    assert (await sdk.until_event("unsubscribed"))["code"] == 0
    await sdk.tell("disconnect")
    assert (await sdk.until_event("disconnected"))["code"] == 0


async def test_a_snapshot_is_the_first_publication(
    sdk: Sdk, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("quotes")
    await add(redis, channel, {"price": 1.5})
    await sdk.tell("connect", url=node.url)
    await sdk.tell("subscribe", channel=channel)
    first = await sdk.until_event("publication")
    assert (first["data"], first["tags"]) == ({"price": 1.5}, {"snapshot": "true"})


async def test_history_presence_and_refusals(sdk: Sdk, node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    written = await add_many(redis, channel, range(10))
    await sdk.tell("connect", url=node.url)
    await sdk.tell("subscribe", channel=channel)
    await sdk.until_event("subscribed")
    history = (await sdk.call("history", channel=channel, options={"limit": 5}))["result"]
    assert [(item["offset"], item["data"]) for item in history["publications"]] == written[:5]
    assert history["offset"] == written[-1].offset
    assert (await sdk.call("presenceStats", channel=channel))["result"] == {"numClients": 1, "numUsers": 1}
    [present] = (await sdk.call("presence", channel=channel))["result"]["clients"].values()
    assert present["client"]
    assert (await sdk.call("rpc", method="x", data={}))["code"] == 104
    assert (await sdk.call("publish", channel=name("log"), data=1))["code"] == 103
    refused = name("nowhere")
    await sdk.tell("subscribe", channel=refused)
    ended = await sdk.until_event("unsubscribed")
    assert (ended["channel"], ended["code"]) == (refused, 102)


async def test_pretty_printed_json_is_one_publication(
    sdk: Sdk, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    await sdk.tell("connect", url=node.url)
    await sdk.tell("subscribe", channel=channel)
    await sdk.until_event("subscribed")
    await redis.xadd(channel, {"data": '{\r\n  "a": [\n    1\n  ]\n}\n'})
    await add(redis, channel, "end")
    await sdk.until_data("end")
    assert [given.data for given in sdk.received[channel]] == [{"a": [1]}, "end"]


async def test_cuts_are_recovered_from(sdk: Sdk, node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    async with Proxy(node.port) as proxy:
        await sdk.tell("connect", url=node.url_at(proxy.port))
        await sdk.tell("subscribe", channel=channel)
        await sdk.until_event("subscribed")
        for number in range(5):
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


async def test_a_gap_is_told_to_the_application(
    sdk: Sdk, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with Proxy(node.port) as proxy:
        await sdk.tell("connect", url=node.url_at(proxy.port))
        await sdk.tell("subscribe", channel=channel)
        await sdk.until_event("subscribed")
        await add(redis, channel, "first")
        await sdk.until_data("first")
        proxy.close_door()
        await redis.delete(channel)
        await add(redis, channel, "another life")
        proxy.open_door()
        # The node may have told it before the cut; either way it learns it once it is back.
        subscribed = await sdk.until_event("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
        await add(redis, channel, "end")
        await sdk.until_data("end")


async def test_a_restarted_node_is_returned_to(
    sdk: Sdk, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    await sdk.tell("connect", url=node.url)
    await sdk.tell("subscribe", channel=channel)
    await sdk.until_event("subscribed")
    await add(redis, channel, "first")
    await sdk.until_data("first")
    node.terminate()
    assert (await sdk.until_event("connecting"))["code"] == 3001
    await asyncio.to_thread(node.wait, 15)
    await add(redis, channel, "meanwhile")
    await node.start()
    assert (await sdk.until_event("subscribed"))["recovered"] is True
    await add(redis, channel, "end")
    await sdk.until_data("end")
    check(sdk.received[channel], await entries(redis, channel))
