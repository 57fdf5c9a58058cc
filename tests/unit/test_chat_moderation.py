"""chat.moderation: who may do what to whom; it holds at once on every node, and is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.chat import moderation
from service.chat.room import FOREVER
from service.errors import ReplyError
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.chat import PREFIX, Node, Person, chat_node, entries, keys_beside, produce

Name = Callable[[str], str]

LOWER = (103, "only somebody of a higher role may do this to a moderator or owner")
MODERATORS = (103, "only moderators of the room may do this")
OWNERS = (103, "only owners of the room may do this")
SELF = (103, "nobody does this to themselves")


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


@pytest_asyncio.fixture
async def other(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


class Room:
    """People of each role, in one room: two of each; `app` is the application itself."""

    def __init__(self, node: Node, channel: str) -> None:
        self.node = node
        self.channel = channel
        self.app = Person(node, channel, "", moderates=True)
        self.cap = Person(node, channel, "cap", moderates=True)
        self.people = {
            user: Person(node, channel, user) for user in ("ann", "bob", "m1", "m2", "o1", "o2", "")
        }

    def __getitem__(self, user: str) -> Person:
        return self.people[user]


@pytest_asyncio.fixture
async def room(node: Node, name: Name) -> Room:
    room = Room(node, name("chat"))
    for user, role in (("m1", "moderator"), ("m2", "moderator"), ("o1", "owner"), ("o2", "owner")):
        await room.app.call("set_role", user=user, role=role)
    return room


@pytest.mark.parametrize("method", ["mute", "unmute", "ban", "unban", "purge"])
async def test_who_may_do_it_to_whom(method: str, room: Room) -> None:
    """Moderators to members, owners to moderators, the application to all but itself."""
    for user, target, refusal in (
        ("ann", "bob", MODERATORS),
        ("ann", "ann", MODERATORS),
        ("", "bob", (103, "sign in to moderate")),
        ("m1", "m1", SELF),
        ("m1", "m2", LOWER),
        ("m1", "o1", LOWER),
        ("o1", "o2", LOWER),
        ("o1", "o1", SELF),
    ):
        assert await room[user].refused(method, user=target) == refusal, (user, target)
    assert await room.cap.refused(method, user="cap") == SELF
    await room["m1"].call(method, user="ann")
    await room["o1"].call(method, user="m1")
    await room.cap.call(method, user="o1")
    await room.app.call(method, user="o2")


async def test_roles(room: Room) -> None:
    """Owners give them, to those below them; nobody raises themselves."""
    for user, target, refusal in (
        ("ann", "ann", OWNERS),
        ("m1", "ann", OWNERS),
        ("m1", "m1", OWNERS),
        ("o1", "o2", LOWER),
        ("o1", "o1", SELF),
    ):
        assert await room[user].refused("set_role", user=target, role="moderator") == refusal
    await room["o1"].call("set_role", user="ann", role="moderator")
    await room["ann"].call("mute", user="bob")
    await room["o1"].call("set_role", user="ann", role="member")
    assert await room["ann"].refused("unmute", user="bob") == MODERATORS
    await room["o1"].call("set_role", user="m1", role="owner")
    assert await room["o1"].refused("set_role", user="m1", role="member") == LOWER
    await room.app.call("set_role", user="m1", role="member")
    assert await room["o1"].refused("set_role", user="ann", role="king") == (
        107,
        "role must be one of owner, moderator, member",
    )
    assert await room["o1"].refused("set_role", role="owner") == (107, "user is required")
    assert await room["o1"].refused("set_role", user="a\nb", role="owner") == (
        107,
        "user has no control characters",
    )


async def test_a_mute_holds_on_every_node(room: Room, other: Node, redis: Redis) -> None:
    """With the next message, until it ends; what else the user may do is left."""
    here, there = room["ann"], Person(other, room.channel, "ann")
    message = await here.say("a")
    until = (await room["m1"].call("mute", user="ann", seconds=60, reason="loud"))["until"]
    for person in (here, there):
        with pytest.raises(ReplyError, match="muted until") as caught:
            await person.say("b")
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after <= 60
        for method, more in (("edit", {"text": "x"}), ("react", {"key": "+"})):
            assert (await person.refused(method, id=message, **more))[0] == 103
        await person.call("history")
    key = f"streamgate:chat-mutes:{{{PREFIX}{room.channel}}}"
    assert await redis.zscore(key, "ann") == until
    await redis.zadd(key, {"ann": until - 120_000})  # it has ended
    await there.say("b")
    await room["m1"].call("mute", user="ann")
    assert await there.refused("send", text="c") == (103, "muted for ever")
    assert await room["m1"].call("unmute", user="ann") == {}
    await there.say("c")
    assert room.node.told == []


async def test_a_ban_holds_on_every_node(room: Room, other: Node, redis: Redis) -> None:
    """All nodes are told, so that they show the user out."""
    there = Person(other, room.channel, "ann")
    message = await there.say("a")
    until = (await room["m1"].call("ban", user="ann", seconds=60))["until"]
    ban = {"command": "ban", "channel": room.channel, "user": "ann"}
    assert room.node.told == [ban | {"until_ms": until}]
    for method, more in (
        ("send", {"text": "b"}),
        ("edit", {"id": message, "text": "b"}),
        ("react", {"id": message, "key": "+"}),
        ("typing", {}),
        ("read", {"id": message}),
        ("history", {}),
    ):
        with pytest.raises(ReplyError, match="banned until") as caught:
            await there.call(method, **more)
        assert caught.value.code == 103
        assert caught.value.retry_after is not None
    assert await other.chat.moderation.bans(room.channel) == {"ann": until}
    await room["m1"].call("ban", user="ann")
    assert await other.chat.moderation.bans(room.channel) == {"ann": FOREVER}
    await room["m1"].call("unban", user="ann")
    assert room.node.told[1:] == [ban | {"until_ms": FOREVER}, ban | {"until_ms": 0}]
    assert await other.chat.moderation.bans(room.channel) == {}
    await there.say("b")


async def test_a_banned_moderator_is_none(room: Room) -> None:
    """An owner's ban ends what the role gave."""
    await room["o1"].call("ban", user="m1")
    for method in ("mute", "purge"):
        assert await room["m1"].refused(method, user="ann") == (103, "banned for ever")
    for method in ("audit", "banned"):
        assert await room["m1"].refused(method) == (103, "banned for ever")


async def test_bans_that_have_ended(room: Room, redis: Redis) -> None:
    """They are not listed, and are forgotten with the next one."""
    key = f"streamgate:chat-bans:{{{PREFIX}{room.channel}}}"
    await redis.zadd(key, {"old": 1})
    soon = (await room["m1"].call("ban", user="ann", seconds=60))["until"]
    assert await redis.zscore(key, "old") is None
    await redis.zadd(key, {"old": 1})
    await room["m1"].call("ban", user="bob")
    found = (await room["m1"].call("banned"))["banned"]
    assert found == [{"user": "bob", "until": FOREVER}, {"user": "ann", "until": soon}]
    assert (await room["m1"].call("banned", limit=1))["banned"] == found[:1]
    slow = await room["m1"].refused("set_room", slow_seconds=-1)
    assert slow == (107, "slow_seconds must be an integer from 0 to 21600")
    assert await room["m1"].refused("banned", limit=0) == (107, "limit must be an integer from 1 to 1000")


async def test_bounds(room: Room) -> None:
    """Times and reasons are bounded."""
    mod = room["m1"]
    ten_years = 315_360_000
    await mod.call("mute", user="ann", seconds=ten_years)
    assert await mod.refused("mute", user="ann", seconds=ten_years + 1) == (
        107,
        "seconds must be an integer from 0 to 315360000",
    )
    assert (await mod.refused("ban", user="ann", seconds=-1))[0] == 107
    assert await mod.refused("ban", user="ann", reason="x" * 501) == (
        107,
        "reason has at most 500 characters, not 501",
    )
    assert (await mod.refused("ban", user="x" * 256))[0] == 107


# The room


async def test_set_room(room: Room, redis: Redis) -> None:
    """What is told changes, the rest stays; the room learns of it."""
    assert await room["ann"].refused("set_room", title="mine") == MODERATORS
    await room["m1"].call("set_room", title="Title", topic="a\nb", slow_seconds=10)
    await room["m1"].call("set_room", topic="", slow_seconds=0)
    state = await room["ann"].call("room")
    assert (state.get("title"), state.get("topic"), state["slow_seconds"]) == ("Title", None, 0)
    assert [orjson.loads(fields[b"data"]) for fields in (await entries(redis, room.channel)).values()] == [
        {"type": "room", "title": "Title", "topic": "a\nb", "slow_seconds": 10},
        {"type": "room", "topic": "", "slow_seconds": 0},
    ]
    for parameters in ({}, {"title": "x" * 201}, {"title": "a\x00"}, {"slow_seconds": 21_601}, {"topic": 1}):
        assert (await room["m1"].refused("set_room", **parameters))[0] == 107


async def test_slow_mode(room: Room) -> None:
    """It holds for members, and says when the next message may come."""
    await room["m1"].call("set_room", slow_seconds=30)
    await room["ann"].say("a")
    with pytest.raises(ReplyError, match="slow mode") as caught:
        await room["ann"].say("b")
    assert (caught.value.code, caught.value.temporary) == (111, True)
    for _ in range(2):
        await room["m1"].say("c")
    await room["m1"].call("set_room", slow_seconds=0)
    await room["ann"].say("d")


# Purge


async def test_purge(room: Room, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a user's messages, with all that became of them, in slices; nobody else's."""
    monkeypatch.setattr(moderation, "PURGE_SCAN", 7)
    monkeypatch.setattr(moderation, "PURGE_SLICE", 3)
    pinned = await room["ann"].say("pinned")
    await room["m1"].call("pin", id=pinned)
    await redis.xtrim(PREFIX + room.channel, maxlen=0, approximate=False)
    mine, others = [], []
    for _ in range(10):
        mine += [await room["ann"].say("x") for _ in range(2)]
        others.append(await room["bob"].say("y"))
    foreign = await produce(redis, room.channel, user="ann", text="z")
    await room["ann"].call("edit", id=mine[0], text="edited")
    await room["bob"].call("react", id=mine[1], key="+1")
    await room["ann"].call("react", id=others[0], key="+1")
    assert await room["m1"].call("purge", user="ann", reason="spam") == {"deleted": 21}
    assert [m["id"] for m in (await room["bob"].call("history", after="0-0"))["messages"]] == others
    assert (await room["bob"].call("room"))["pins"] == []
    rest = await entries(redis, room.channel)
    told: list[dict[str, Any]] = [orjson.loads(fields[b"data"]) for fields in rest.values()]
    purges = [data for data in told if data["type"] == "purge"]
    assert {data["user"] for data in purges} == {"ann"}
    assert all(len(data["ids"]) <= 3 for data in purges)
    assert sorted(each for data in purges for each in data["ids"]) == sorted([pinned, *mine, foreign])
    dropped = {each for fields in rest.values() for each in fields.get(b"_drop", b"").decode().split()}
    assert dropped >= {*mine, foreign}
    # And the event of the edit. Reactions say nothing of what was said.
    assert len(dropped) == 22 + 1
    assert [data["type"] for data in told if data["type"] not in ("message", "purge")] == ["reaction"] * 2
    beside = await keys_beside(redis, room.channel)
    left = {f"chat-{kind}::{others[0]}" for kind in ("counts", "reactors", "reactions")}
    assert beside == {"chat-room:"} | left
    acts = (await room.app.call("audit"))["acts"]
    assert [(a["what"], a["who"], a["whom"], a["reason"]) for a in acts[:1]] == [
        ("purge", "m1", "ann", "spam")
    ]
    assert [act["what"] for act in acts].count("purge") == 1


async def test_a_purge_of_nothing(room: Room, redis: Redis) -> None:
    """It is on record, and no event."""
    assert await room["m1"].call("purge", user="eve") == {"deleted": 0}
    assert await entries(redis, room.channel) == {}
    assert (await room.app.call("audit", limit=1))["acts"][0]["what"] == "purge"


# The record


async def test_the_record(room: Room, redis: Redis) -> None:
    """Every act, newest first, in pages; for moderators only."""
    before = (await room.app.call("audit", limit=1))["acts"][0]["id"]
    message = await room["ann"].say("a")
    await room["m1"].call("pin", id=message)
    await room["m1"].call("unpin", id=message)
    await room["m1"].call("set_room", title="T")
    await room["o1"].call("set_role", user="ann", role="moderator")
    await room["o1"].call("mute", user="bob", reason="loud")
    await room.app.call("ban", user="bob")
    acts = (await room["m2"].call("audit"))["acts"]
    new = [act for act in acts if act["at"] >= int(before.partition("-")[0]) and act["id"] != before]
    assert [(a["what"], a.get("who"), a.get("whom"), a.get("message"), a.get("reason")) for a in new[:6]] == [
        ("ban", None, "bob", None, None),
        ("mute", "o1", "bob", None, "loud"),
        ("set_role", "o1", "ann", None, "moderator"),
        ("set_room", "m1", None, None, None),
        ("unpin", "m1", "ann", message, None),
        ("pin", "m1", "ann", message, None),
    ]
    # What has become of it, where the name of the act does not say it.
    assert [(a.get("until"), a.get("change")) for a in new[:4]] == [
        (FOREVER, None),
        (FOREVER, None),
        (None, None),
        (None, {"title": "T"}),
    ]
    pages: list[str] = []
    position: dict[str, str] = {}
    while page := (await room["m2"].call("audit", limit=3, **position))["acts"]:
        pages += [act["id"] for act in page]
        position = {"before": page[-1]["id"]}
    assert pages == [act["id"] for act in acts]
    assert await room["bob"].refused("audit") == (103, "banned for ever")
    assert await room[""].refused("audit") == (103, "sign in to moderate")
    eve = Person(room.node, room.channel, "eve")
    assert await eve.refused("audit") == MODERATORS
    assert await eve.refused("banned") == MODERATORS
