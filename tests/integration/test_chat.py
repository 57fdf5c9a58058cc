"""Chat over the wire: what is done on one node is seen on another, live, in history and in replays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis

from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, allow, signed_in, someone
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]

SETTINGS: dict[str, Any] = {
    "tokens": TOKENS,
    "presence": {"grace_seconds": 0.2, "batch_ms": 5},
    "namespaces": {
        "room": {
            "mode": "log",
            "chat": True,
            "publish": "authenticated",
            "presence": "anonymous",
            "history_size": 1000,
        }
    },
}


@pytest_asyncio.fixture
async def nodes(start_node: StartNode, redis_process: RedisProcess) -> Nodes:
    one, other = await asyncio.gather(*(start_node(redis_process.url, SETTINGS) for _ in range(2)))
    return one, other


class Person:
    """Somebody in a room: what they do, and what they see."""

    def __init__(self, client: Client, user: str, channel: str) -> None:
        self.client = client
        self.user = user
        self.channel = channel
        self.position: Json = {}

    async def say(self, method: str, **params: Any) -> Json:
        """A chat command; its result."""
        data = params | {"channel": self.channel}
        result: Json = (await self.client.call("rpc", method=f"chat.{method}", data=data))["data"]
        return result

    async def refused(self, method: str, **params: Any) -> Json:
        """A chat command; the error it is answered with."""
        data = params | {"channel": self.channel}
        return await self.client.error("rpc", method=f"chat.{method}", data=data)

    async def sees(self, kind: str) -> Json:
        """The next publication of a type; joins and leaves on the way are passed over."""
        while True:
            push = await self.client.next_push()
            publication: Json = push.get("pub", {})
            if publication and publication["data"].get("type", "message") == kind:
                return publication

    async def texts(self) -> list[str]:
        """The texts of the room's history, oldest first."""
        page = await self.say("history")
        return [message["data"]["text"] for message in reversed(page["messages"])]


@asynccontextmanager
async def person(node: NodeProcess, channel: str, *allowed: str) -> AsyncIterator[Person]:
    """A user who is in the room."""
    user = someone()
    caps: dict[str, Any] = {"caps": allow(channel, *allowed)} if allowed else {}
    async with signed_in(node.url, user, **caps) as client:
        found = Person(client, user, channel)
        found.position = await client.subscribe(channel)
        yield found


async def _replayed(node: NodeProcess, person: Person) -> list[Any]:
    """What a client that comes back is given of all that was since this person came."""
    async with open_client(node.url) as client:
        result = await client.recover(person.channel, person.position)
        assert result["recovered"] is True
        return [item["data"] for item in result.get("publications", [])]


async def test_a_message(nodes: Nodes, name: Name) -> None:
    """It has an id, an author, a time; the author sees it once, by the same way as the others."""
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        first = await ann.say("send", text="hello", nonce="n1")
        for who in (ann, bob):
            seen = await who.sees("message")
            assert seen["data"]["text"] == "hello"
            assert (seen["tags"]["id"], seen["offset"], seen["time"]) == (
                first["id"],
                first["offset"],
                first["time"],
            )
            assert seen["info"] == {"user": ann.user, "client": ann.client.hello["client"]}
        reply = await bob.say("send", text="hi", reply_to=first["id"])
        seen = await ann.sees("message")
        assert (seen["data"]["reply_to"], seen["tags"]["id"]) == (first["id"], reply["id"])
        again = await ann.say("send", text="hello", nonce="n1")
        assert (again["id"], again["duplicate"]) == (first["id"], True)
        assert await bob.texts() == ["hello", "hi"]


async def test_plain_publish_is_a_message(nodes: Nodes, name: Name) -> None:
    """With the same rules: an object with text or body, by whoever may."""
    channel = name("room")
    async with person(nodes[0], channel) as ann, open_client(nodes[1].url) as nobody:
        await ann.client.call("publish", channel=channel, data={"text": "plain", "nonce": "p"})
        seen = await ann.sees("message")
        assert seen["data"] == {"type": "message", "text": "plain", "nonce": "p"}
        error = await ann.client.error("publish", channel=channel, data="just text")
        assert error["code"] == 107
        assert "text or body" in error["message"]
        assert (await nobody.error("publish", channel=channel, data={"text": "x"}))["code"] == 103
        assert await ann.texts() == ["plain"]


async def test_a_nonce_sent_from_two_nodes_at_once_is_one_message(nodes: Nodes, name: Name) -> None:
    channel, user = name("room"), someone()
    async with signed_in(nodes[0].url, user) as one, signed_in(nodes[1].url, user) as other:
        data = {"channel": channel, "text": "once", "nonce": "same"}
        replies = await asyncio.gather(
            *(client.call("rpc", method="chat.send", data=data) for client in (one, other) * 10)
        )
        assert len({reply["data"]["id"] for reply in replies}) == 1
        assert sum("duplicate" not in reply["data"] for reply in replies) == 1
        history = await one.call("rpc", method="chat.history", data={"channel": channel})
        assert len(history["data"]["messages"]) == 1


async def test_what_is_deleted_is_gone_live_in_history_and_in_replays(nodes: Nodes, name: Name) -> None:
    """On every node, from its memory too."""
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        kept = await ann.say("send", text="kept")
        gone = await ann.say("send", text="a secret")
        for who in (ann, bob):
            await who.sees("message")
            await who.sees("message")
        assert (await bob.refused("delete", id=gone["id"]))["code"] == 103
        await ann.say("delete", id=gone["id"])
        for who in (ann, bob):
            event = await who.sees("delete")
            assert event["data"]["id"] == gone["id"]
        for node, who in zip(nodes, (ann, bob), strict=True):
            assert await who.texts() == ["kept"]
            replayed = await _replayed(node, who)
            assert [data["type"] for data in replayed] == ["message", "delete"]
            assert "a secret" not in str(replayed)
            raw = await who.client.call("history", channel=channel, limit=-1)
            assert "a secret" not in str(raw)
        assert (await ann.refused("edit", id=gone["id"], text="x"))["code"] == 404
        assert kept["id"] != gone["id"]


async def test_the_only_message_of_a_room_is_deleted(nodes: Nodes, name: Name) -> None:
    """Nothing is left of what anybody has read, and yet nobody has missed anything."""
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        sent = await ann.say("send", text="a secret")
        for who in (ann, bob):
            await who.sees("message")
        await ann.say("delete", id=sent["id"])
        await ann.say("send", text="next")
        for who in (ann, bob):
            assert (await who.sees("delete"))["data"]["id"] == sent["id"]
            assert (await who.sees("message"))["data"]["text"] == "next"
    for node in nodes:
        assert await node.metric("streamgate_gaps_total", namespace="room") == 0


async def test_a_purge_takes_all_of_one_user(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with (
        person(nodes[0], channel) as ann,
        person(nodes[1], channel) as spammer,
        person(nodes[1], channel, "mod", "pub") as moderator,
    ):
        for number in range(25):
            await spammer.say("send", text=f"spam {number}")
        await ann.say("send", text="ham")
        result = await moderator.say("purge", user=spammer.user)
        assert result["deleted"] == 25
        await ann.sees("purge")
        await spammer.sees("purge")
        for node, who in zip(nodes, (ann, spammer), strict=True):
            assert await who.texts() == ["ham"]
            assert "spam" not in str(
                [data for data in await _replayed(node, who) if data["type"] == "message"]
            )


async def test_edits_and_reactions(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        sent = await ann.say("send", text="helo")
        assert (await bob.refused("edit", id=sent["id"], text="hacked"))["code"] == 103
        await ann.say("edit", id=sent["id"], text="hello")
        edited = await bob.sees("edit")
        assert (edited["data"]["id"], edited["data"]["text"]) == (sent["id"], "hello")
        await ann.say("react", id=sent["id"], key="👍")
        result = await bob.say("react", id=sent["id"], key="👍")
        assert result["counts"] == {"👍": 2}
        for counts in ({"👍": 1}, {"👍": 2}):
            assert (await ann.sees("reaction"))["data"]["counts"] == counts
        await ann.say("react", id=sent["id"], key="👍", remove=True)
        (message,) = (await bob.say("history"))["messages"]
        assert (message["data"]["text"], message["reactions"]) == ("hello", {"👍": 1})
        assert message["edited"] > sent["time"]


async def test_typing_is_seen_at_once_and_never_again(nodes: Nodes, redis: Redis, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        await ann.say("typing")
        seen = await bob.sees("typing")
        assert seen["data"]["user"] == ann.user
        assert "offset" not in seen
        assert await redis.xlen(channel) == 0
        assert await _replayed(nodes[1], bob) == []


async def test_a_marker_that_is_moved_again_and_again(nodes: Nodes, redis: Redis, name: Name) -> None:
    """By the least there is. It moves, but the room is not told each time."""
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        sent = await ann.say("send", text="hello")
        markers = [f"1-{number}" for number in range(60)]
        for marker in markers:
            assert await bob.say("read", id=marker) == {"id": marker}
        assert (await ann.say("reads", users=[bob.user]))["markers"] == {bob.user: markers[-1]}
        live = await redis.xrange(f"streamgate:live:{{{channel}}}")
        assert 1 <= str(live).count('"type":"read"') < 60
        await ann.say("read", id=sent["id"])  # others are told of as before
        seen = await bob.sees("read")
        while seen["data"]["user"] != ann.user:
            seen = await bob.sees("read")


async def test_mute_and_ban_hold_on_every_node_at_once(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with (
        person(nodes[0], channel) as ann,
        person(nodes[1], channel, "mod", "pub") as moderator,
        signed_in(nodes[1].url, ann.user) as ann_elsewhere,
    ):
        await ann_elsewhere.subscribe(channel)
        assert (await ann.refused("mute", user=moderator.user))["code"] == 103
        await moderator.say("mute", user=ann.user, seconds=60)
        for client in (ann.client, ann_elsewhere):
            error = await client.error("publish", channel=channel, data={"text": "hm"})
            assert error["code"] == 103
            assert 50 < error["retry_after"] <= 60
        await moderator.say("unmute", user=ann.user)
        await ann.say("send", text="thanks")
        await moderator.say("ban", user=ann.user)
        for client in (ann.client, ann_elsewhere):
            push = await client.next_push()
            while "unsubscribe" not in push:
                push = await client.next_push()
            assert push["unsubscribe"]["code"] < 2500
            for command in ("subscribe", "history"):
                assert (await client.error(command, channel=channel))["code"] == 103, command
            assert (await client.error("publish", channel=channel, data={"text": "hm"}))["code"] == 103
        await moderator.say("unban", user=ann.user)

        async def may_come_back() -> bool:
            return "error" not in await ann.client.command("subscribe", channel=channel)

        await eventually(may_come_back, "the ban is over on the other node")
        acts = (await moderator.say("audit"))["acts"]
        assert [act["what"] for act in reversed(acts)] == ["mute", "unmute", "ban", "unban"]


async def test_slow_mode(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel, "mod", "pub") as moderator:
        await moderator.say("set_room", slow_seconds=30, title="a <b>quiet</b> room")
        assert (await ann.sees("room"))["data"]["title"] == "a <b>quiet</b> room"
        await ann.say("send", text="one")
        error = await ann.refused("send", text="two")
        assert (error["code"], error["temporary"]) == (111, True)
        assert 25 < error["retry_after"] <= 30
        await moderator.say("send", text="one")
        await moderator.say("send", text="two")


async def test_history_is_paged_both_ways(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel) as ann, person(nodes[1], channel) as bob:
        sent = [(await ann.say("send", text=str(number)))["id"] for number in range(30)]
        await ann.say("react", id=sent[0], key="x")
        back: list[str] = []
        page = await bob.say("history", limit=7)
        while page["messages"]:
            back += [message["id"] for message in page["messages"]]
            if "next" not in page:
                break
            page = await bob.say("history", limit=7, before=page["next"])
        assert back == sent[::-1]
        page = await bob.say("history", limit=7, after=sent[9])
        assert [message["id"] for message in page["messages"]] == sent[10:17]


async def test_nothing_is_before_the_beginning(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel, "mod", "pub") as moderator:
        await moderator.say("send", text="hello")
        await moderator.say("ban", user=someone("bob"))
        assert await moderator.say("history", before="0-0") == {"messages": []}
        assert await moderator.say("audit", before="0-0") == {"acts": []}


async def test_joins_leaves_and_who_is_there(nodes: Nodes, name: Name) -> None:
    channel = name("room")
    async with person(nodes[0], channel) as ann:
        assert (await ann.client.next_push())["join"]["info"]["user"] == ann.user
        async with person(nodes[1], channel) as bob:
            assert (await ann.client.next_push())["join"]["info"]["user"] == bob.user
            for who in (ann, bob):
                stats = await who.client.call("presence_stats", channel=channel)
                assert stats == {"num_clients": 2, "num_users": 2}
        assert (await ann.client.next_push())["leave"]["info"]["user"] == bob.user


async def test_who_is_banned_stays_out_however_they_come(nodes: Nodes, name: Name) -> None:
    """A token that subscribes them when they connect does not let them in; nor do they see who is there."""
    channel, user = name("room"), someone()
    async with person(nodes[0], channel, "mod", "pub") as moderator:
        for ban, said in (({}, "banned for ever"), ({"seconds": 600}, "banned until ")):
            await moderator.say("ban", user=user, **ban)
            async with signed_in(nodes[1].url, user) as client:
                error = await client.error("subscribe", channel=channel)
                assert (error["code"], error["message"][: len(said)]) == (103, said)
                assert ("retry_after" in error) is bool(ban)
        for node in nodes:
            async with signed_in(node.url, user, channels=[channel]) as client:
                assert "subs" not in client.hello
                for command in ("presence", "presence_stats", "history"):
                    assert (await client.error(command, channel=channel))["code"] == 103, command
