"""The official Python SDK, unmodified: connect, subscribe, publish, recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from centrifuge import (
    Client,
    PublicationContext,
    ReplyError,
    SubscribedContext,
    Subscription,
    SubscriptionEventHandler,
    UnsubscribedContext,
)
from redis.asyncio import Redis

from tests.sdk.python import connected, payload, read
from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE

Name = Callable[[str], str]


class Application(SubscriptionEventHandler):  # type: ignore[misc]
    """What an application sees of one subscription."""

    def __init__(self) -> None:
        self.received: list[Given] = []
        self.snapshots: list[Any] = []
        self.subscribed: asyncio.Queue[SubscribedContext] = asyncio.Queue()
        self.unsubscribed: asyncio.Queue[UnsubscribedContext] = asyncio.Queue()
        self._data: asyncio.Queue[Any] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        if (ctx.pub.tags or {}).get("snapshot"):
            self.snapshots.append(read(ctx.pub.data))
        else:
            self.received.append(Given(ctx.pub.offset, read(ctx.pub.data)))
        self._data.put_nowait(read(ctx.pub.data))

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.unsubscribed.put_nowait(ctx)

    async def next_subscribed(self) -> SubscribedContext:
        return await asyncio.wait_for(self.subscribed.get(), DEADLINE)

    async def until_data(self, data: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            while await self._data.get() != data:
                pass


@asynccontextmanager
async def _following(
    url: str, channel: str, protobuf: bool
) -> AsyncIterator[tuple[Client, Subscription, Application]]:
    application = Application()
    client = Client(url, min_reconnect_delay=0.02, max_reconnect_delay=0.2, use_protobuf=protobuf)
    subscription = client.new_subscription(channel, events=application)
    async with connected(client):
        await subscription.subscribe()
        yield client, subscription, application


async def test_connect_subscribe_publish(node: NodeProcess, redis: Redis, name: Name, protobuf: bool) -> None:
    channel = name("chat")
    async with _following(node.url, channel, protobuf) as (client, subscription, application):
        context = await application.next_subscribed()
        assert context.recoverable
        await add(redis, channel, {"by": "XADD"})
        await application.until_data({"by": "XADD"})
        await subscription.publish(payload({"text": "a\nb\u2028c"}, protobuf))
        await application.until_data({"text": "a\nb\u2028c"})
        check(application.received, await entries(redis, channel))
        await subscription.unsubscribe()
        context_of_end = await asyncio.wait_for(application.unsubscribed.get(), DEADLINE)
        assert context_of_end.code == 0
        assert client.state.value == "connected"


async def test_a_snapshot_is_marked(node: NodeProcess, redis: Redis, name: Name, protobuf: bool) -> None:
    channel = name("quotes")
    await add(redis, channel, {"price": 1.5})
    async with _following(node.url, channel, protobuf) as (_, _, application):
        await application.until_data({"price": 1.5})
        assert application.snapshots == [{"price": 1.5}]


async def test_history_presence_and_refusals(
    node: NodeProcess, redis: Redis, name: Name, protobuf: bool
) -> None:
    channel = name("chat")
    written = await add_many(redis, channel, range(10))
    async with _following(node.url, channel, protobuf) as (client, subscription, application):
        await application.next_subscribed()
        history = await subscription.history(limit=5)
        assert [(item.offset, read(item.data)) for item in history.publications] == written[:5]
        assert history.offset == written[-1].offset
        assert (await subscription.presence_stats()).num_clients == 1
        assert len((await subscription.presence()).clients) == 1
        with pytest.raises(ReplyError) as refused:
            await client.rpc("x", payload({}, protobuf))
        assert refused.value.code == 104
        with pytest.raises(ReplyError) as refused:
            await client.publish(name("log"), payload(1, protobuf))
        assert refused.value.code == 103


async def test_cuts_are_recovered_from(node: NodeProcess, redis: Redis, name: Name, protobuf: bool) -> None:
    channel = name("log")
    async with (
        Proxy(node.port) as proxy,
        _following(node.url_at(proxy.port), channel, protobuf) as (_, _, application),
    ):
        await application.next_subscribed()
        for number in range(5):
            await add(redis, channel, f"before cut {number}")
            await application.until_data(f"before cut {number}")
            proxy.close_door()
            await add_many(redis, channel, ([number, n] for n in range(20)))
            proxy.open_door()
            context = await application.next_subscribed()
            assert (context.was_recovering, context.recovered) == (True, True)
        await add(redis, channel, "end")
        await application.until_data("end")
        check(application.received, await entries(redis, channel))


async def test_a_gap_is_told_to_the_application(
    node: NodeProcess, redis: Redis, name: Name, protobuf: bool
) -> None:
    channel = name("log")
    async with (
        Proxy(node.port) as proxy,
        _following(node.url_at(proxy.port), channel, protobuf) as (_, _, application),
    ):
        await application.next_subscribed()
        await add(redis, channel, "first")
        await application.until_data("first")
        proxy.close_door()
        await redis.delete(channel)
        await add(redis, channel, "another life")
        proxy.open_door()
        context = await application.next_subscribed()
        assert (context.was_recovering, context.recovered) == (True, False)
        await add(redis, channel, "end")
        await application.until_data("end")
