"""The server API subscribes users and has their sessions expire, on all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import cent
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support import api
from tests.support.checker import add, add_many
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, from_now, signed_in, someone
from tests.support.ws_client import Json

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {
    "api": api.API,
    "tokens": TOKENS,
    "limits": {"subscriptions": 3},
    "namespaces": {
        "team": {"mode": "log", "history_size": 0, "subscribe": "token", "presence": "authenticated"},
        "room": {"mode": "log", "chat": True},
        "inbox": {"mode": "log", "personal": True, "subscribe": "authenticated"},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


# subscribe


async def test_all_sessions_are_subscribed(pair: Nodes, redis: Redis, name: Name) -> None:
    """On all nodes, where the position is; what comes next is not missed, and others see who it is."""
    channel, user = name("team"), someone()
    (last,) = await add_many(redis, channel, ["before"])
    async with signed_in(pair[0].url, user) as one, signed_in(pair[1].url, user) as other:
        info, data = {"role": "captain"}, {"topic": "goals"}
        assert await api.call(pair[0], "subscribe", user=user, channel=channel, info=info, data=data) == {}
        for client in (one, other):
            push = await client.next_push()
            epoch = push["subscribe"].pop("epoch")
            assert push == {
                "channel": channel,
                "subscribe": {"recoverable": True, "positioned": True, "offset": last.offset, "data": data},
            }
            assert epoch
        await add(redis, channel, "after")
        for client in (one, other):
            assert await client.next_data(channel) == "after"
            found = (await client.call("presence", channel=channel))["presence"]
            assert found[client.hello["client"]]["chan_info"] == info


async def test_it_is_recovered_when_the_token_says_so(pair: Nodes, redis: Redis, name: Name) -> None:
    """From the position of the push, on another node."""
    channel, user = name("team"), someone()
    async with signed_in(pair[0].url, user) as client:
        await api.call(pair[1], "subscribe", user=user, channel=channel)
        position = (await client.next_push())["subscribe"]
    await add(redis, channel, "meanwhile")
    request: Json = {"subs": {channel: {"recover": True, "epoch": position["epoch"]}}}
    async with signed_in(pair[1].url, user, request=request, channels=[channel]) as client:
        sub = client.hello["subs"][channel]
        assert sub["recovered"] is True
        assert [publication["data"] for publication in sub["publications"]] == ["meanwhile"]


async def test_one_session_and_only_once(pair: Nodes, redis: Redis, name: Name) -> None:
    """The one that is meant; who has the channel keeps it as it is."""
    channel, user = name("log"), someone()
    async with signed_in(pair[0].url, user) as one, signed_in(pair[0].url, user) as other:
        for _ in range(2):
            await api.call(pair[1], "subscribe", user=user, channel=channel, client=one.hello["client"])
        assert "subscribe" in await one.next_push()
        assert (await one.error("subscribe", channel=channel))["code"] == 105
        await add(redis, channel, 1)
        assert await one.next_data(channel) == 1
        assert await other.call("ping") == {}
        assert (one.pushes_now(), other.pushes_now()) == ([], [])


async def test_orders_are_carried_out_as_they_were_given(pair: Nodes, redis: Redis, name: Name) -> None:
    """Subscribed and at once unsubscribed: whichever was under way, nothing comes any more."""
    user, channels = someone(), [name("team") for _ in range(20)]
    async with signed_in(pair[0].url, user) as client:
        for channel in channels:
            both: list[Json] = [
                {"subscribe": {"user": user, "channel": channel}},
                {"unsubscribe": {"user": user, "channel": channel}},
            ]
            assert await api.call_batch(pair[1], both) == [{"subscribe": {}}, {"unsubscribe": {}}]
        await api.call(pair[1], "subscribe", user=user, channel=name("log"))
        open_ones: set[str] = set()
        while not (push := await client.next_push())["channel"].startswith("log:"):
            (open_ones.add if "subscribe" in push else open_ones.discard)(push["channel"])
        assert open_ones == set()


async def test_racing_with_the_client_itself(pair: Nodes, redis: Redis, name: Name) -> None:
    """One of the two subscribes it; each publication comes once."""
    user = someone()
    async with signed_in(pair[0].url, user) as client:
        for _ in range(20):
            channel = name("log")
            await asyncio.gather(
                client.command("subscribe", channel=channel),
                api.call(pair[0], "subscribe", user=user, channel=channel),
            )
            await add(redis, channel, 1)
            while "pub" not in (push := await client.next_push()):
                assert "subscribe" in push
            await client.call("unsubscribe", channel=channel)
            assert [p for p in client.pushes_now() if "pub" in p] == []
            assert push["pub"]["data"] == 1


async def test_a_snapshot_comes_after_the_push(pair: Nodes, redis: Redis, name: Name) -> None:
    channel, user = name("quotes"), someone()
    await add(redis, channel, 17)
    async with signed_in(pair[0].url, user) as client:
        await api.call(pair[0], "subscribe", user=user, channel=channel)
        assert "subscribe" in await client.next_push()
        snapshot = await client.next_publication(channel)
        assert (snapshot["data"], "snapshot" in snapshot["tags"]) == (17, True)


async def test_who_is_passed_over(pair: Nodes, name: Name) -> None:
    """The banned, and who has all it may have."""
    user, room, last = someone(), name("room"), name("log")
    await api.call(pair[0], "chat.ban", channel=room, user=user)
    async with signed_in(pair[1].url, user) as client:
        await api.call(pair[0], "subscribe", user=user, channel=room)
        for channel in (name("team"), name("team"), last, name("team")):
            await api.call(pair[0], "subscribe", user=user, channel=channel)
            if channel == last:
                for _ in range(3):
                    push = await client.next_push()
                assert (push["channel"], "subscribe" in push) == (last, True)
        await api.call(pair[0], "unsubscribe", user=user, channel=last)
        push = await client.next_push()
        assert (push["channel"], "unsubscribe" in push) == (last, True)


# refresh


async def test_expired(pair: Nodes) -> None:
    """Closed with 3005, which has SDKs come back with a new token."""
    user = someone()
    async with signed_in(pair[0].url, user) as one, signed_in(pair[1].url, user) as other:
        await api.call(pair[0], "refresh", user=user, client=one.hello["client"], expired=True)
        assert (await one.closed())[0] == 3005
        await other.command("ping")
        await api.call(pair[0], "refresh", user=user, expired=True)
        assert (await other.closed())[0] == 3005


async def test_expire_at(pair: Nodes) -> None:
    """Without the token's saying so; of the one session that is meant."""
    user = someone()
    async with signed_in(pair[1].url, user) as one, signed_in(pair[0].url, user) as other:
        client = one.hello["client"]
        await api.call(pair[0], "refresh", user=user, client=client, expire_at=int(from_now(2)))
        assert (await one.closed())[0] == 3005
        await other.command("ping")


# What is refused


@pytest.mark.parametrize(
    ("method", "params", "code", "why"),
    [
        ("subscribe", {"user": "ann"}, 107, "channel is required"),
        ("subscribe", {"channel": "log:x"}, 107, "user is required"),
        ("subscribe", {"user": "ann", "channel": "nowhere:x"}, 102, "there are"),
        ("subscribe", {"user": "ann", "channel": "inbox:bob"}, 107, "another user's"),
        ("subscribe", {"user": "ann", "channel": "log:x", "client": ""}, 107, "client must not be empty"),
        ("subscribe", {"user": "ann", "channel": "log:x", "info": "x" * 70_000}, 106, "65536 bytes"),
        ("refresh", {"user": "ann"}, 107, "expired, true, or expire_at"),
        ("refresh", {"user": "ann", "expired": False}, 107, "expired, true, or expire_at"),
        ("refresh", {"user": "ann", "expire_at": "tomorrow"}, 107, "expire_at must be an integer"),
        ("refresh", {"user": "ann", "expired": True, "cliemt": "x"}, 107, "no parameter 'cliemt'"),
    ],
)
async def test_what_is_refused(pair: Nodes, method: str, params: Json, code: int, why: str) -> None:
    error = await api.error(pair[0], method, **params)
    assert (error["code"], why in error["message"]) == (code, True), error


async def test_by_cent(pair: Nodes, name: Name) -> None:
    """Its requests are understood."""
    channel, user = name("team"), someone()
    async with (
        signed_in(pair[0].url, user) as client,
        cent.AsyncClient(f"http://127.0.0.1:{pair[1].admin_port}/api", api.KEY) as application,
    ):
        one: Json = {"user": user, "client": client.hello["client"]}
        await application.subscribe(cent.SubscribeRequest(channel=channel, data={"a": 1}, info=[], **one))
        assert (await client.next_push())["subscribe"]["data"] == {"a": 1}
        await application.refresh(cent.RefreshRequest(expired=True, **one))
        assert (await client.closed())[0] == 3005
