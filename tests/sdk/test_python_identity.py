"""The official Python SDK, unmodified: tokens, server-side subscriptions, presence, rpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler
from redis.asyncio import Redis

from tests.sdk.python import connected, payload, read
from tests.support import api
from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess
from tests.support.proxy import Proxy
from tests.support.tokens import from_now, signed_in, someone, token
from tests.support.waiting import DEADLINE
from tests.support.ws_client import open_client

Name = Callable[[str], str]


class Application(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """Everything that an application hears, in order."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.past: list[str] = []
        self.received: dict[str, list[Given]] = {}

    def __getattribute__(self, name: str) -> Any:
        """Handlers are all alike."""
        return self._heard(name) if name.startswith("on_") else super().__getattribute__(name)

    def _heard(self, name: str) -> Callable[[Any], Awaitable[None]]:
        async def heard(ctx: Any) -> None:
            if name == "on_publication":
                given = Given(ctx.pub.offset, read(ctx.pub.data))
                self.received.setdefault(getattr(ctx, "channel", ""), []).append(given)
            self.events.put_nowait((name.removeprefix("on_"), ctx))

        return heard

    async def until(self, wanted: str, true: Callable[[Any], bool] = lambda ctx: True) -> Any:
        """The next event of this name of which this is true."""
        async with asyncio.timeout(DEADLINE):
            while True:
                name, ctx = await self.events.get()
                if name == wanted and true(ctx):
                    return ctx
                self.past.append(name)

    async def until_data(self, data: Any) -> None:
        """A publication with this data."""
        await self.until("publication", lambda ctx: bool(read(ctx.pub.data) == data))


@asynccontextmanager
async def _client(url: str, application: Application, **options: Any) -> AsyncIterator[Client]:
    client = Client(url, events=application, min_reconnect_delay=0.02, max_reconnect_delay=0.2, **options)
    async with connected(client):
        yield client


class Tokens:
    """Gives tokens one after the other, the last one again and again."""

    def __init__(self, *makers: Callable[[], str]) -> None:
        self._makers = list(makers)
        self.asked = 0
        self._changed = asyncio.Condition()

    async def __call__(self, channel: str = "") -> str:
        async with self._changed:
            self.asked += 1
            self._changed.notify_all()
        return (self._makers.pop(0) if len(self._makers) > 1 else self._makers[0])()

    async def were_asked(self, times: int) -> None:
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: self.asked >= times)


async def test_tokens_are_asked_for_before_they_end(
    gate: NodeProcess, redis: Redis, name: Name, protobuf: bool
) -> None:
    user, channel, application = someone(), name("log"), Application()
    tokens = Tokens(*[lambda: token(user, exp=from_now(1.5))] * 3, lambda: token(user))
    async with _client(gate.url, application, use_protobuf=protobuf, get_token=tokens) as client:
        subscription = client.new_subscription(channel, events=application)
        await subscription.subscribe()
        await tokens.were_asked(4)
        await add(redis, channel, "end")
        await application.until_data("end")
        assert application.past.count("connected") == 1
        assert "disconnected" not in application.past


async def test_a_token_that_is_no_good(gate: NodeProcess, protobuf: bool) -> None:
    application = Application()
    async with _client(gate.url, application, use_protobuf=protobuf, token="no token"):
        assert (await application.until("disconnected")).code == 3500


async def test_an_expired_token_is_replaced(gate: NodeProcess, protobuf: bool) -> None:
    user, application = someone(), Application()
    tokens = Tokens(lambda: token(user))
    old = token(user, exp=from_now(-60))
    async with _client(gate.url, application, use_protobuf=protobuf, token=old, get_token=tokens):
        await application.until("connected")
        assert tokens.asked == 1


async def test_subscription_tokens(gate: NodeProcess, redis: Redis, name: Name, protobuf: bool) -> None:
    user, channel, application = someone(), name("token"), Application()
    tokens = Tokens(
        *[lambda: token(user, channel=channel, exp=from_now(1.5))] * 2, lambda: token(user, channel=channel)
    )
    async with _client(gate.url, application, use_protobuf=protobuf, token=token(user)) as client:
        subscription = client.new_subscription(channel, events=application, get_token=tokens)
        await subscription.subscribe()
        await tokens.were_asked(3)
        await add(redis, channel, "end")
        await application.until_data("end")
        assert "unsubscribed" not in application.past


async def test_server_side_subscriptions(gate: NodeProcess, redis: Redis, name: Name, protobuf: bool) -> None:
    """Made by the token, recovered over cuts."""
    user, channel, application = someone(), name("token"), Application()

    async def subscribed() -> Any:
        return await application.until("subscribed", lambda ctx: bool(ctx.channel == channel))

    async with (
        Proxy(gate.port) as proxy,
        _client(
            gate.url_at(proxy.port), application, use_protobuf=protobuf, token=token(user, channels=[channel])
        ),
    ):
        await subscribed()
        for number in range(3):
            await add(redis, channel, f"before cut {number}")
            await application.until_data(f"before cut {number}")
            proxy.close_door()
            await add_many(redis, channel, ([number, n] for n in range(20)))
            proxy.open_door()
            context = await subscribed()
            assert (context.was_recovering, context.recovered) == (True, True)
        await add(redis, channel, "end")
        await application.until_data("end")
        check(application.received[channel], await entries(redis, channel))


async def test_presence_and_joins(gate: NodeProcess, name: Name, protobuf: bool) -> None:
    user, channel, application = someone(), name("open"), Application()
    async with (
        _client(
            gate.url, application, use_protobuf=protobuf, token=token(user, info={"name": "Ann"})
        ) as client,
        signed_in(gate.url, user) as desk,
        open_client(gate.url) as guest,
    ):
        subscription = client.new_subscription(channel, events=application, join_leave=True)
        await subscription.subscribe()
        own = (await application.until("join")).info
        assert (own.user, read(own.conn_info)) == (user, {"name": "Ann"})
        await desk.subscribe(channel)
        await guest.subscribe(channel)
        assert (await application.until("join")).info.client == guest.hello["client"]
        stats = await subscription.presence_stats()
        assert (stats.num_clients, stats.num_users) == (3, 2)
        clients = (await subscription.presence()).clients
        assert clients.keys() == {own.client, desk.hello["client"], guest.hello["client"]}
        await guest.call("unsubscribe", channel=channel)
        assert (await application.until("leave")).info.client == guest.hello["client"]


async def test_rpc(gate: NodeProcess, name: Name, protobuf: bool) -> None:
    user, channel, application = someone(), name("room"), Application()
    async with _client(gate.url, application, use_protobuf=protobuf, token=token(user)) as client:
        subscription = client.new_subscription(channel, events=application)
        await subscription.subscribe()
        sent = await client.rpc("chat.send", payload({"channel": channel, "text": "hello"}, protobuf))
        assert read((await application.until("publication")).pub.data)["text"] == "hello"
        page = await client.rpc("chat.history", payload({"channel": channel}, protobuf))
        assert [message["id"] for message in read(page.data)["messages"]] == [read(sent.data)["id"]]
        with pytest.raises(ReplyError) as refused:
            await client.rpc("chat.ban", payload({"channel": channel, "user": "bob"}, protobuf))
        assert refused.value.code == 103


async def test_revoked(gate: NodeProcess, name: Name, protobuf: bool) -> None:
    user, channel, application = someone(), name("log"), Application()
    async with _client(gate.url, application, use_protobuf=protobuf, token=token(user)) as client:
        subscription = client.new_subscription(channel, events=application)
        await subscription.subscribe()
        await application.until("subscribed", lambda ctx: bool(ctx.channel == channel))
        await api.call(gate, "unsubscribe", user=user, channel=channel)
        assert (await application.until("unsubscribed")).code == 2000
        await api.call(gate, "revoke", user=user)
        assert (await application.until("disconnected")).code == 3500
