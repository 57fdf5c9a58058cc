"""Presence over the wire: who is there, who comes and who goes, on all nodes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

PRESENCE = {"grace_seconds": 0.6, "batch_ms": 10, "heartbeat_seconds": 0.5, "dead_seconds": 10}


def _settings(**presence: float) -> Json:
    """Nodes with these times are alone among themselves: others would look dead to them."""
    return {
        "tokens": TOKENS,
        "redis": {"key_prefix": f"{uuid.uuid4().hex[:8]}:"},
        "presence": PRESENCE | presence,
        "namespaces": {
            "open": {"mode": "log", "presence": "anonymous", "join_leave": True},
            "plain": {"mode": "log", "presence": "anonymous"},
            "silent": {"mode": "log", "presence": "nobody", "join_leave": True},
            "room": {"mode": "log", "presence": "anonymous", "publish": "anonymous", "chat": True},
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    settings = _settings()
    async with running(redis_process.url, settings, settings) as (first, second):
        yield first, second


async def _stats(client: Client, channel: str) -> tuple[int, int]:
    """Clients and users."""
    result = await client.call("presence_stats", channel=channel)
    return result.get("num_clients", 0), result.get("num_users", 0)


async def _until(client: Client, channel: str, clients: int, users: int) -> None:
    async def so_many() -> bool:
        return await _stats(client, channel) == (clients, users)

    await eventually(so_many, f"{channel} has {clients} clients of {users} users")


async def _joins(client: Client, channel: str, count: int) -> None:
    """The next pushes are so many joins, in any order: nodes write apart."""
    assert [(await _next_event(client, channel))[0] for _ in range(count)] == ["join"] * count


async def _next_event(client: Client, channel: str) -> tuple[str, Json]:
    """The next push, which must be of this channel: its kind, and who it is about."""
    push = await client.next_push()
    assert push.pop("channel") == channel
    ((kind, body),) = push.items()
    return kind, body["info"]


# Who is there


async def test_presence_and_stats_over_nodes(pair: Nodes, name: Name) -> None:
    """Whoever asks, wherever: the same members, with what their tokens say of them."""
    channel, ann, bob = name("plain"), someone(), someone("bob")
    async with (
        signed_in(pair[0].url, ann, info={"name": "Ann"}) as first,
        signed_in(pair[1].url, bob) as second,
        open_client(pair[0].url) as third,
        open_client(pair[1].url) as stranger,
    ):
        await first.subscribe(channel, token=token(ann, channel=channel, info={"seat": 5}))
        await second.subscribe(channel)
        await third.subscribe(channel)
        for asked in (first, second, stranger):
            await _until(asked, channel, 3, 3)
            members = (await asked.call("presence", channel=channel))["presence"]
            ids = [client.hello["client"] for client in (first, second, third)]
            assert members == {
                ids[0]: {
                    "client": ids[0],
                    "user": ann,
                    "conn_info": {"name": "Ann"},
                    "chan_info": {"seat": 5},
                },
                ids[1]: {"client": ids[1], "user": bob},
                ids[2]: {"client": ids[2]},
            }
        await second.call("unsubscribe", channel=channel)
        for asked in (first, second, stranger):
            await _until(asked, channel, 2, 2)
    async with open_client(pair[1].url) as stranger:
        await _until(stranger, channel, 0, 0)
        assert (await stranger.call("presence", channel=channel)).get("presence", {}) == {}


async def test_ones_own_subscription_is_seen_at_once(pair: Nodes, name: Name) -> None:
    """A client that has subscribed finds itself, without waiting for the next batch."""
    for number in range(10):
        async with open_client(pair[number % 2].url) as client:
            channel = name("plain")
            await client.subscribe(channel)
            assert await _stats(client, channel) == (1, 1)
            members = (await client.call("presence", channel=channel))["presence"]
            assert members.keys() == {client.hello["client"]}
            await client.call("unsubscribe", channel=channel)
            assert await _stats(client, channel) == (0, 0)


async def test_two_devices_of_a_user(pair: Nodes, name: Name) -> None:
    """They count once, join once and leave once, though on two nodes."""
    channel, user = name("open"), someone()
    async with open_client(pair[1].url) as watcher, AsyncExitStack() as stack:
        await watcher.subscribe(channel, join_leave=True)
        assert (await _next_event(watcher, channel))[1]["client"] == watcher.hello["client"]
        phone = await stack.enter_async_context(signed_in(pair[0].url, user))
        desk = await stack.enter_async_context(signed_in(pair[1].url, user))
        await phone.subscribe(channel)
        kind, info = await _next_event(watcher, channel)
        assert (kind, info) == ("join", {"user": user, "client": phone.hello["client"]})
        await desk.subscribe(channel)
        await _until(watcher, channel, 3, 2)
        await phone.call("unsubscribe", channel=channel)
        await _until(watcher, channel, 2, 2)
        await phone.subscribe(channel)
        await _until(watcher, channel, 3, 2)
        await desk.call("unsubscribe", channel=channel)
        await phone.call("unsubscribe", channel=channel)
        kind, info = await _next_event(watcher, channel)
        assert (kind, info["user"]) == ("leave", user)
        await _until(watcher, channel, 1, 1)
        assert watcher.pushes_now() == []


# Joins and leaves


async def test_joins_and_leaves_for_those_who_ask(pair: Nodes, name: Name) -> None:
    channel, plain, silent = name("open"), name("plain"), name("silent")
    async with open_client(pair[0].url) as asks, open_client(pair[1].url) as does_not:
        await asks.subscribe(channel, join_leave=True)
        await asks.subscribe(plain, join_leave=True)  # has none
        await asks.subscribe(silent, join_leave=True)
        await does_not.subscribe(channel)
        await does_not.subscribe(plain)
        await does_not.subscribe(silent)
        seen: dict[str, list[tuple[str, str]]] = {channel: [], silent: []}

        async def take(count: int) -> None:
            for _ in range(count):
                push = await asks.next_push()
                kind = "join" if "join" in push else "leave"
                seen[push["channel"]].append((kind, push[kind]["info"]["client"]))

        await take(4)
        await does_not.call("unsubscribe", channel=channel)
        await does_not.call("unsubscribe", channel=silent)
        await take(2)
        own, other = asks.hello["client"], does_not.hello["client"]
        for events in seen.values():
            assert sorted(events[:2]) == sorted([("join", own), ("join", other)])
            assert events[2:] == [("leave", other)]
        await does_not.command("ping")
        assert does_not.pushes_now() == []
        assert (await asks.error("presence", channel=silent))["code"] == 103


async def test_in_chat_everybody_hears(pair: Nodes, name: Name) -> None:
    channel, user = name("room"), someone()
    async with open_client(pair[0].url) as watcher, signed_in(pair[1].url, user) as guest:
        await watcher.subscribe(channel)
        assert (await _next_event(watcher, channel))[0] == "join"
        await guest.subscribe(channel)
        kind, info = await _next_event(watcher, channel)
        assert (kind, info["user"]) == ("join", user)
        await guest.call("unsubscribe", channel=channel)
        assert (await _next_event(watcher, channel))[0] == "leave"


async def test_events_have_no_offsets_and_no_place_in_history(pair: Nodes, name: Name) -> None:
    """An SDK's position stays that of the publications."""
    channel = name("room")
    async with open_client(pair[0].url) as watcher:
        position = await watcher.subscribe(channel)
        await _joins(watcher, channel, 1)
        for node in pair:
            async with open_client(node.url) as guest:
                await guest.subscribe(channel)
                assert (await watcher.next_push()).keys() == {"channel", "join"}
                await guest.call("unsubscribe", channel=channel)
                assert (await watcher.next_push()).keys() == {"channel", "leave"}
        history = await watcher.call("history", channel=channel, limit=-1)
        assert history.get("publications", []) == []
        assert history.get("offset", 0) == position.get("offset", 0)


# Reloads, cuts, ends


@pytest.mark.parametrize("user", [someone(), ""], ids=["a user", "anonymous"])
async def test_a_reload(pair: Nodes, name: Name, user: str) -> None:
    """Within the grace nobody sees it: of a user. An anonymous client is a new one each time."""
    channel = name("room")
    async with open_client(pair[0].url) as watcher, AsyncExitStack() as stack:
        await watcher.subscribe(channel)
        await _next_event(watcher, channel)
        clients = []
        for turn in range(4):  # cut, and back on the other node
            client = await stack.enter_async_context(open_client(pair[turn % 2].url, connect=False))
            await client.connect(**({"token": token(user)} if user else {}))
            await client.subscribe(channel)
            clients.append(client.hello["client"])
            client.cut()
        last = await stack.enter_async_context(open_client(pair[0].url))
        await last.subscribe(channel)
        # The end of the grace is when all of them have gone.
        await _until(watcher, channel, 2, 2)
        events = [await _next_event(watcher, channel) for _ in range(3 if user else 9)]
        joins = [info["client"] for kind, info in events if kind == "join"]
        leaves = [info.get("user", "") for kind, info in events if kind == "leave"]
        if user:
            assert set(joins) - {*clients} == {last.hello["client"]}
            assert len(joins) == 2
        else:
            assert set(joins) == {*clients, last.hello["client"]}
        assert leaves == [user] * (1 if user else 4)
        assert watcher.pushes_now() == []


@pytest.mark.parametrize("way", ["cut", "close"])
async def test_a_lost_client_leaves_after_the_grace(pair: Nodes, name: Name, way: str) -> None:
    channel, user = name("room"), someone()
    async with open_client(pair[0].url) as watcher, signed_in(pair[1].url, user) as guest:
        await watcher.subscribe(channel)
        await guest.subscribe(channel)
        await _joins(watcher, channel, 2)
        if way == "cut":
            guest.cut()
        else:
            await guest.aclose()
        assert await _stats(watcher, channel) == (2, 2)
        kind, info = await _next_event(watcher, channel)
        assert (kind, info["user"]) == ("leave", user)
        assert await _stats(watcher, channel) == (1, 1)


async def test_a_killed_node(redis_process: RedisProcess, name: Name) -> None:
    """Its clients leave once it is dead, and no client of the others does."""
    settings = _settings(heartbeat_seconds=0.3, dead_seconds=2)
    channel, both, gone = name("room"), someone(), someone("bob")
    async with (
        running(redis_process.url, settings, settings) as (survivor, victim),
        open_client(survivor.url) as watcher,
        signed_in(survivor.url, both) as stays,
        signed_in(victim.url, both) as dies,
        signed_in(victim.url, gone) as dies_too,
    ):
        for client in (watcher, stays, dies, dies_too):
            await client.subscribe(channel)
        await _until(watcher, channel, 4, 3)
        victim.kill()
        assert await _stats(watcher, channel) == (4, 3)
        await _until(watcher, channel, 2, 2)
        members = (await watcher.call("presence", channel=channel))["presence"]
        assert members.keys() == {watcher.hello["client"], stays.hello["client"]}
        events: list[tuple[str, Json]] = []
        while not events or events[-1][0] != "leave":
            events.append(await _next_event(watcher, channel))
        assert events[-1][1]["user"] == gone
        assert sum(info.get("user") == both for _, info in events) == 1
        await watcher.command("ping")
        assert watcher.pushes_now() == []
        # Back again, it is a node like any other.
        await victim.start()
        async with signed_in(victim.url, gone) as client:
            await client.subscribe(channel)
            assert await _stats(client, channel) == (3, 3)


async def test_a_node_that_stops(redis_process: RedisProcess, name: Name) -> None:
    """A restart: who comes back to another node within the grace has never left."""
    settings = _settings(grace_seconds=1.5, heartbeat_seconds=0.3, dead_seconds=2)
    channel, returns, leaves = name("room"), someone(), someone("bob")
    async with (
        running(redis_process.url, settings, settings, may_end=True) as (stays, stops),
        open_client(stays.url) as watcher,
        AsyncExitStack() as stack,
    ):
        await watcher.subscribe(channel)
        for user in (returns, leaves):
            client = await stack.enter_async_context(signed_in(stops.url, user))
            await client.subscribe(channel)
        await _until(watcher, channel, 3, 3)
        await stops.stop()
        client = await stack.enter_async_context(signed_in(stays.url, returns))
        await client.subscribe(channel)
        await _until(watcher, channel, 2, 2)
        events: list[tuple[str, Json]] = []
        while not events or events[-1][0] != "leave":
            events.append(await _next_event(watcher, channel))
        assert events[-1][1]["user"] == leaves
        assert [kind for kind, info in events if info.get("user") == returns] == ["join"]


# Crowds


async def test_summaries_of_crowds(redis_process: RedisProcess, name: Name) -> None:
    """Beyond `summary_members` users, joins and leaves become counts, once in `summary_seconds`."""
    settings = _settings(summary_members=5, summary_seconds=0.3, grace_seconds=0)
    channel = name("room")
    async with running(redis_process.url, settings, settings) as nodes, open_client(nodes[0].url) as watcher:
        await watcher.subscribe(channel)
        async with AsyncExitStack() as stack:
            for number in range(20):
                client = await stack.enter_async_context(open_client(nodes[number % 2].url))
                await client.subscribe(channel)
            joins, summaries = await _read_until(watcher, channel, 21)
            assert joins + sum(summary["joined"] for summary in summaries) == 21
            assert 1 <= joins <= 5
            assert 1 <= len(summaries) <= 10
            assert await _stats(watcher, channel) == (21, 21)
        joins, summaries = await _read_until(watcher, channel, 1)
        assert joins == 0
        assert (
            sum(summary["left"] for summary in summaries) + sum(summary["joined"] for summary in summaries)
            >= 15
        )
        history = await watcher.call("history", channel=channel, limit=-1)
        assert history.get("publications", []) == []


async def _read_until(watcher: Client, channel: str, users: int) -> tuple[int, list[Json]]:
    """Joins, and summaries up to the one that tells of so many users, or the leaves below the bound."""
    joins, left = 0, 0
    summaries: list[Json] = []
    while not (summaries and summaries[-1]["users"] - left == users):
        push = await watcher.next_push()
        assert push["channel"] == channel
        if "pub" in push:
            assert "offset" not in push["pub"]
            assert push["pub"]["data"]["type"] == "presence"
            summaries.append(push["pub"]["data"])
            left = 0
        else:
            joins += "join" in push
            left += "leave" in push
    return joins, summaries
