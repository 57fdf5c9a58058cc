"""Server-side subscriptions: what a client is subscribed to when it connects, without asking."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.producer import Producer
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, from_now, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {
    "tokens": TOKENS,
    "limits": {"recovery_entries": 2000, "subscriptions": 20},
    "namespaces": {
        "feed": {"mode": "log", "history_size": 0},
        "quotes": {"mode": "latest", "snapshot": True},
        "team": {"mode": "log", "history_size": 0, "subscribe": "token", "presence": "authenticated"},
        "closed": {"mode": "log", "subscribe": "nobody"},
        "inbox": {"mode": "log", "personal": True, "subscribe": "authenticated", "auto_subscribe": True},
        "drafts": {"mode": "log", "personal": True, "subscribe": "authenticated"},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


# What a token subscribes to


async def test_channels_of_the_token(pair: Nodes, redis: Redis, name: Name) -> None:
    """They need no permission of the namespace's: the token is that."""
    user, feed, team = someone(), name("feed"), name("team")
    await add_many(redis, feed, range(3))
    async with signed_in(pair[0].url, user, channels=[feed, team]) as client:
        subs = client.hello["subs"]
        assert subs.keys() == {feed, team, f"inbox:{user}"}
        for channel, sub in subs.items():
            assert sub["recoverable"] is True
            assert sub["positioned"] is True
            assert sub["epoch"]
            assert sub.get("offset", 0) == (await _top(redis, channel))
            assert "publications" not in sub
        for channel in subs:
            await add(redis, channel, channel)
            assert await client.next_data(channel) == channel


async def _top(redis: Redis, channel: str) -> int:
    written = await entries(redis, channel)
    return written[-1].offset if written else 0


async def test_subs_of_the_token(pair: Nodes, redis: Redis, name: Name) -> None:
    user, team, quotes = someone(), name("team"), name("quotes")
    await add(redis, quotes, 17)
    subs: Json = {
        team: {"data": {"topic": "goals"}, "info": {"role": "captain"}},
        quotes: {"b64data": "WzFd", "override": {"presence": {"value": False}}},
    }
    async with signed_in(pair[0].url, user, subs=subs) as client, signed_in(pair[1].url, someone()) as other:
        given = client.hello["subs"]
        assert given[team]["data"] == {"topic": "goals"}
        assert given[quotes]["data"] == [1]
        (snapshot,) = given[quotes]["publications"]
        assert (snapshot["data"], "snapshot" in snapshot["tags"]) == (17, True)

        async def present() -> list[Json]:
            return list((await other.call("presence", channel=team)).get("presence", {}).values())

        (info,) = await eventually(present, "it is seen on the other node")
        assert info == {"user": user, "client": client.hello["client"], "chan_info": {"role": "captain"}}


async def test_the_client_may_leave_and_return(pair: Nodes, redis: Redis, name: Name) -> None:
    """By unsubscribing. A subscribe to what it has is an error; to `team` it needs the token's word."""
    feed, team = name("feed"), name("team")
    async with signed_in(pair[0].url, someone(), channels=[feed, team]) as client:
        assert (await client.error("subscribe", channel=feed))["code"] == 105
        for channel in (feed, team):
            await client.call("unsubscribe", channel=channel)
            await add(redis, channel, "missed")
        await client.subscribe(feed)
        assert (await client.error("subscribe", channel=team))["code"] == 103
        await add(redis, feed, "seen")
        # What came just before may be news to the node.
        assert await client.next_data(feed) in ("seen", "missed")
        await add(redis, feed, "end")
        while (data := await client.next_data(feed)) != "end":
            assert data == "seen"


@pytest.mark.parametrize(
    "channels", [["nowhere:x"], ["inbox:somebody-else"], [f"feed:{n}" for n in range(30)]]
)
async def test_tokens_that_name_what_cannot_be(pair: Nodes, channels: list[str]) -> None:
    """The application's mistake: error 107 says so, and nothing is subscribed to."""
    async with open_client(pair[0].url, connect=False) as client:
        assert (await client.error("connect", token=token(someone(), channels=channels)))["code"] == 107
        assert (await client.error("subscribe", channel="feed:x"))["code"] == 101
        await client.connect(token=token(someone()))


# Personal channels


async def test_personal_channels(pair: Nodes, redis: Redis) -> None:
    """One prefix that subscribes by itself, one that waits to be asked; nobody is no user."""
    user = someone()
    async with signed_in(pair[0].url, user) as client, open_client(pair[1].url) as anonymous:
        assert client.hello["subs"].keys() == {f"inbox:{user}"}
        assert "subs" not in anonymous.hello
        await client.subscribe(f"drafts:{user}")
        for channel in (f"inbox:{user}", f"drafts:{user}"):
            await add(redis, channel, "for you")
            assert await client.next_data(channel) == "for you"
        assert (await anonymous.error("subscribe", channel="inbox:"))["code"] == 102


@pytest.mark.parametrize("user", ["a b", "*", "{x}", "a\nb", "x" * 300])
async def test_a_user_whose_id_is_no_channel_name(pair: Nodes, user: str) -> None:
    async with signed_in(pair[0].url, user) as client:
        assert "subs" not in client.hello
        assert (await client.error("subscribe", channel=f"inbox:{user}"))["code"] == 102


# Nothing is lost


class Follower:
    """An SDK's view of server-side subscriptions: positions kept from one connection to the next."""

    def __init__(self, channels: list[str]) -> None:
        self.received: dict[str, list[Given]] = {channel: [] for channel in channels}
        self.positions: dict[str, Json] = {}
        self.gaps = 0

    async def follow(self, client: Client, user: str, count: int) -> None:
        """Connect, and take so many publications, or what there is until the connection ends."""
        request = {
            channel: {"recover": True} | {key: value for key, value in position.items() if value}
            for channel, position in self.positions.items()
        }
        number = client.next_id()
        claims = token(user, channels=list(self.received))
        await client.send_raw(json.dumps({"id": number, "connect": {"token": claims, "subs": request}}))
        hello = (await client.reply(number))["connect"]
        first = json.loads(str(client.messages[0]).split("\n")[0])
        assert first["id"] == number, "a push came before the reply"
        for channel, sub in hello["subs"].items():
            if channel in request:
                assert sub["was_recovering"] is True
                self.gaps += not sub.get("recovered")
                if sub.get("recovered"):
                    assert sub.get("offset", 0) == request[channel].get("offset", 0)
            self.positions[channel] = {"offset": sub.get("offset", 0), "epoch": sub["epoch"]}
            for publication in sub.get("publications", []):
                self._take(channel, publication)
        for _ in range(count):
            push = await client.next_push()
            self._take(push["channel"], push["pub"])

    def _take(self, channel: str, publication: Json) -> None:
        self.received[channel].append(Given(publication["offset"], publication["data"]))
        self.positions[channel]["offset"] = publication["offset"]

    def has(self, offsets: dict[str, int]) -> bool:
        return all(self.positions[channel]["offset"] >= offset for channel, offset in offsets.items())


async def test_recovery_over_nodes_while_entries_pour_in(pair: Nodes, redis: Redis, name: Name) -> None:
    """Connection after connection, on one node and the other: no gap, no duplicate, no early push."""
    rng = random.Random(7)
    user, channels = someone(), [name("feed") for _ in range(3)]
    follower = Follower(channels)
    producers = [Producer(redis, channel, rng=rng, batch=20, pause=0.01) for channel in channels]
    async with open_client(pair[0].url, connect=False) as client:
        await follower.follow(client, user, 0)
    async with asyncio.TaskGroup() as group:
        for producer in producers:
            group.create_task(producer.write(2000))
        for turn in range(25):
            async with open_client(pair[turn % 2].url, connect=False) as client:
                await follower.follow(client, user, rng.randint(0, 30))
                client.cut()
    ends = {producer_channel: await _top(redis, producer_channel) for producer_channel in channels}
    async with open_client(pair[0].url, connect=False) as client:
        await follower.follow(client, user, 0)
    assert follower.gaps == 0
    assert follower.has(ends)
    for channel in channels:
        check(follower.received[channel], await entries(redis, channel))


async def test_a_position_that_is_gone(pair: Nodes, redis: Redis, name: Name) -> None:
    """Said to the client, which goes on from now; of its channels alone that of which it is true."""
    user, lost, kept = someone(), name("feed"), name("feed")
    await add_many(redis, kept, range(2))
    async with signed_in(pair[0].url, user, channels=[lost, kept]) as client:
        subs = client.hello["subs"]
    await add(redis, kept, "meanwhile")
    positions = {
        lost: {"recover": True, "epoch": "another", "offset": 5},
        kept: {"recover": True, "epoch": subs[kept]["epoch"], "offset": subs[kept]["offset"]},
        name("feed"): {"recover": True, "epoch": "x", "offset": 5},  # not of the token: passed over
    }
    async with signed_in(pair[1].url, user, request={"subs": positions}, channels=[lost, kept]) as client:
        subs = client.hello["subs"]
        assert subs.keys() == {lost, kept, f"inbox:{user}"}
        assert (subs[lost]["was_recovering"], subs[lost].get("recovered", False)) == (True, False)
        assert (subs[kept]["was_recovering"], subs[kept]["recovered"]) == (True, True)
        assert [publication["data"] for publication in subs[kept]["publications"]] == ["meanwhile"]
        assert "was_recovering" not in subs[f"inbox:{user}"]
        await add(redis, lost, "from now on")
        assert await client.next_data(lost) == "from now on"


async def test_a_gap_closes_the_connection(pair: Nodes, redis: Redis, name: Name) -> None:
    """SDKs forget the position of a server-side subscription that is taken away, but not on reconnect."""
    user, channel, other = someone(), name("feed"), name("feed")
    await add_many(redis, channel, range(5))
    async with signed_in(pair[0].url, user, channels=[channel]) as client, open_client(pair[0].url) as asked:
        await asked.subscribe(channel)
        await client.subscribe(other)
        position = client.hello["subs"][channel]
        await redis.delete(channel)
        await add(redis, channel, "another life")
        assert (await client.closed())[0] == 3010
        push = await asked.next_push()
        assert push["unsubscribe"]["code"] == 2500
    again: Json = {"subs": {channel: {"recover": True} | position}}
    async with signed_in(pair[0].url, user, request=again, channels=[channel]) as client:
        assert not client.hello["subs"][channel].get("recovered")


# Ends


async def test_it_ends_with_the_connections_token(pair: Nodes, name: Name) -> None:
    """A subscription of the server's has no end of its own while its connection has none."""
    async with signed_in(pair[0].url, someone(), channels=[name("team")], exp=from_now(0.7)) as client:
        assert (await client.closed())[0] == 3005


async def test_a_subscription_refreshed_by_an_expiring_token(pair: Nodes, name: Name) -> None:
    """Where a token gave a server-side subscription an end, that ends the connection: 3006."""
    user, channel = someone(), name("team")
    async with signed_in(pair[0].url, user, channels=[channel]) as client:
        short = token(user, channel=channel, exp=from_now(1.1))
        assert (await client.call("sub_refresh", channel=channel, token=short))["ttl"] == 1
        assert (await client.closed())[0] == 3006


async def test_refreshing_does_not_change_subscriptions(pair: Nodes, redis: Redis, name: Name) -> None:
    user, before, after = someone(), name("team"), name("team")
    async with signed_in(pair[0].url, user, channels=[before]) as client:
        await client.call("refresh", token=token(user, channels=[after]))
        for channel in (after, before):
            await add(redis, channel, channel)
        assert await client.next_data(before) == before
