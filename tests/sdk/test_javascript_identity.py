"""The official JavaScript SDK, unmodified: tokens, server-side subscriptions, presence, rpc."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.sdk.javascript import Sdk
from tests.support import api
from tests.support.checker import add, add_many, check, entries
from tests.support.node import NodeProcess
from tests.support.proxy import Proxy
from tests.support.tokens import from_now, signed_in, someone, token
from tests.support.ws_client import open_client

pytestmark = [pytest.mark.node, pytest.mark.timeout(360)]  # the first one installs

Name = Callable[[str], str]


async def test_a_token(sdk: Sdk, gate: NodeProcess, redis: Redis) -> None:
    user = someone()
    await sdk.tell("connect", url=gate.url, options={"token": token(user)})
    await sdk.until_event("connected")
    await sdk.tell("subscribe", channel=f"inbox:{user}")
    assert (await sdk.until_event("server subscribed"))["channel"] == f"inbox:{user}"


async def test_a_token_that_is_no_good(sdk: Sdk, gate: NodeProcess) -> None:
    """The SDK gives up: it would only be refused again."""
    await sdk.tell("connect", url=gate.url, options={"token": "no token"})
    assert (await sdk.until_event("disconnected"))["code"] == 3500


async def test_tokens_are_asked_for_before_they_end(
    sdk: Sdk, gate: NodeProcess, redis: Redis, name: Name
) -> None:
    """getToken at the start, again before the node closes, and again; the connection stays."""
    user, channel = someone(), name("log")
    await sdk.tell("connect", url=gate.url, options={"getToken": True})
    await sdk.tell("subscribe", channel=channel)
    for _ in range(3):
        await sdk.give_token(token(user, exp=from_now(1.5)))
    await sdk.give_token(token(user))
    await add(redis, channel, "end")
    await sdk.until_data("end")
    assert [event["event"] for event in sdk.passed].count("connected") == 1
    assert [event["event"] for event in sdk.passed].count("subscribed") == 1


async def test_an_expired_token_is_replaced(sdk: Sdk, gate: NodeProcess, name: Name) -> None:
    """Error 109: the SDK asks for another one, and comes in."""
    await sdk.tell(
        "connect", url=gate.url, options={"token": token(someone(), exp=from_now(-60)), "getToken": True}
    )
    await sdk.give_token(token(someone()))
    await sdk.until_event("connected")


async def test_subscription_tokens(sdk: Sdk, gate: NodeProcess, redis: Redis, name: Name) -> None:
    """Asked for before the subscription, and again before they end; the subscription stays."""
    user, channel = someone(), name("token")
    await sdk.tell("connect", url=gate.url, options={"token": token(user)})
    await sdk.tell("subscribe", channel=channel, options={"getToken": True})
    for _ in range(3):
        await sdk.give_token(token(user, channel=channel, exp=from_now(1.5)), channel)
    await sdk.give_token(token(user, channel=channel), channel)
    await add(redis, channel, "end")
    await sdk.until_data("end")
    assert [event["event"] for event in sdk.passed].count("subscribed") == 1


async def test_without_a_subscription_token(sdk: Sdk, gate: NodeProcess, name: Name) -> None:
    await sdk.tell("connect", url=gate.url, options={"token": token(someone())})
    await sdk.tell("subscribe", channel=name("token"))
    assert (await sdk.until_event("unsubscribed"))["code"] == 103


async def test_an_expired_subscription_resubscribes(
    sdk: Sdk, gate: NodeProcess, redis: Redis, name: Name
) -> None:
    """2501 where no new token came in time: the SDK asks for one and recovers what it has missed."""
    user, channel = someone(), name("token")
    await sdk.tell("connect", url=gate.url, options={"token": token(user)})
    short = token(user, channel=channel, exp=from_now(0.5))
    await sdk.tell("subscribe", channel=channel, options={"token": short, "getToken": True})
    await sdk.until_event("subscribed")
    await add(redis, channel, "first")
    await sdk.until_data("first")
    assert (await sdk.until_event("subscribing"))["code"] == 2501
    await add(redis, channel, "missed")
    await sdk.give_token(token(user, channel=channel), channel)
    subscribed = await sdk.until_event("subscribed")
    assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
    await add(redis, channel, "end")
    await sdk.until_data("end")
    check(sdk.received[channel], await entries(redis, channel))


async def test_server_side_subscriptions(sdk: Sdk, gate: NodeProcess, redis: Redis, name: Name) -> None:
    """Made by the token, recovered over cuts."""
    user, channel = someone(), name("token")
    claims = token(user, subs={channel: {"data": {"topic": "goals"}}})
    async with Proxy(gate.port) as proxy:
        await sdk.tell("connect", url=gate.url_at(proxy.port), options={"token": claims})
        subscribed = await sdk.until(
            lambda event: event["event"] == "server subscribed" and event["channel"] == channel
        )
        assert subscribed["data"] == {"topic": "goals"}
        for number in range(3):
            await add(redis, channel, f"before cut {number}")
            await sdk.until_data(f"before cut {number}")
            proxy.close_door()
            await add_many(redis, channel, ([number, n] for n in range(20)))
            await add(redis, f"inbox:{user}", number)
            proxy.open_door()
            subscribed = await sdk.until(
                lambda event: event["event"] == "server subscribed" and event["channel"] == channel
            )
            assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
        await add(redis, channel, "end")
        await sdk.until_data("end")
    for followed in (channel, f"inbox:{user}"):
        check(sdk.received[followed], await entries(redis, followed))


async def test_presence_and_joins(sdk: Sdk, gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("open")
    await sdk.tell("connect", url=gate.url, options={"token": token(user, info={"name": "Ann"})})
    await sdk.tell("subscribe", channel=channel, options={"joinLeave": True})
    own = await sdk.until_event("join")
    assert (own["info"]["user"], own["info"]["connInfo"]) == (user, {"name": "Ann"})
    async with signed_in(gate.url, user) as desk, open_client(gate.url) as guest:
        await desk.subscribe(channel)
        await guest.subscribe(channel)
        assert (await sdk.until_event("join"))["info"]["client"] == guest.hello["client"]
        stats = (await sdk.call("presenceStats", channel=channel))["result"]
        assert (stats["numClients"], stats["numUsers"]) == (3, 2)
        clients = (await sdk.call("presence", channel=channel))["result"]["clients"]
        assert clients.keys() == {own["info"]["client"], desk.hello["client"], guest.hello["client"]}
        await guest.call("unsubscribe", channel=channel)
        assert (await sdk.until_event("leave"))["info"]["client"] == guest.hello["client"]


async def test_rpc(sdk: Sdk, gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("room")
    await sdk.tell("connect", url=gate.url, options={"token": token(user)})
    await sdk.tell("subscribe", channel=channel)
    sent = await sdk.call("rpc", method="chat.send", data={"channel": channel, "text": "hello"})
    message = sent["result"]["data"]
    assert message["id"]
    assert (await sdk.until_event("publication"))["data"]["text"] == "hello"
    page = await sdk.call("rpc", method="chat.history", data={"channel": channel})
    (found,) = page["result"]["data"]["messages"]
    assert found["id"] == message["id"]
    failed = await sdk.call("rpc", method="chat.ban", data={"channel": channel, "user": "bob"})
    assert (failed["event"], failed["code"]) == ("failed", 103)


async def test_revoked(sdk: Sdk, gate: NodeProcess, name: Name) -> None:
    """Unsubscribed for good, then disconnected for good."""
    user, channel = someone(), name("log")
    await sdk.tell("connect", url=gate.url, options={"token": token(user)})
    await sdk.tell("subscribe", channel=channel)
    await sdk.until_event("subscribed")
    await api.call(gate, "unsubscribe", user=user, channel=channel)
    assert (await sdk.until_event("unsubscribed"))["code"] == 2000
    await api.call(gate, "revoke", user=user)
    assert (await sdk.until_event("disconnected"))["code"] == 3500
