"""chat.signals: what is over at once leaves no trace in the stream, and is not told too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
from redis.asyncio import Redis

from service.chat import signals
from service.streams.keys import Keys
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.chat import PREFIX, Node, Person, chat_node, entries, keys_beside, live_events

Name = Callable[[str], str]


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


async def test_typing(node: Node, redis: Redis, name: Name) -> None:
    """It is told once in a while, with who and for how long; never in the history."""
    channel = name("chat")
    ann, bob = Person(node, channel, "ann"), Person(node, channel, "bob")
    for person in (ann, ann, bob, ann):
        assert await person.call("typing") == {}
    told = {"type": "typing", "typing": True, "expires_ms": 6000}
    assert await live_events(redis, channel) == [told | {"user": "ann"}, told | {"user": "bob"}]
    assert await entries(redis, channel) == {}
    key = f"streamgate:chat-typing:{{{PREFIX}{channel}}}:u:ann"
    assert 0 < await redis.pttl(key) <= signals.TYPING_PAUSE_MS
    await redis.delete(key)  # the pause is over
    await ann.call("typing", typing=True)
    assert (await live_events(redis, channel))[2:] == [told | {"user": "ann"}]
    assert 0 < await redis.ttl(Keys(PREFIX).live(channel)) <= 86_400


async def test_on_and_off(node: Node, redis: Redis, name: Name) -> None:
    """That somebody has stopped is told once, and does not let them begin again at once."""
    channel = name("chat")
    ann = Person(node, channel, "ann")
    await ann.call("typing", typing=False)
    for _ in range(10):
        await ann.call("typing", typing=True)
        await ann.call("typing", typing=False)
    assert [event["typing"] for event in await live_events(redis, channel)] == [True, False]
    assert await redis.pttl(f"streamgate:chat-typing:{{{PREFIX}{channel}}}:u:ann") > 0


async def test_the_anonymous_type_each_for_themselves(node: Node, redis: Redis, name: Name) -> None:
    """They are told apart by their connections."""
    channel = name("chat")
    for client in ("c1", "c2", "c1"):
        await Person(node, channel, "", client=client).call("typing")
    assert len(await live_events(redis, channel)) == 2


async def test_who_is_not_heard(node: Node, redis: Redis, name: Name) -> None:
    """The muted do not type; the banned do not read, either."""
    channel = name("chat")
    ann, app = Person(node, channel, "ann"), Person(node, channel, "", moderates=True)
    message = await ann.say("a")
    await app.call("mute", user="ann")
    assert await ann.refused("typing") == (103, "muted for ever")
    assert await ann.call("read", id=message) == {"id": message}
    await app.call("ban", user="ann")
    for method in ("typing", "reads"):
        assert await ann.refused(method) == (103, "banned for ever")
    assert await ann.refused("read", id=message) == (103, "banned for ever")
    denied = Person(node, channel, "bob", denied=frozenset({"publish"}))
    assert (await denied.refused("typing"))[0] == 103
    await denied.call("read", id=message)


async def test_markers_only_move_forward(node: Node, redis: Redis, name: Name) -> None:
    """And the room is told when they do. Ids are compared as numbers."""
    channel = name("chat")
    ann, bob = Person(node, channel, "ann"), Person(node, channel, "bob")
    for entry_id in ("900-0", "1000-9", "1000-10"):
        await redis.xadd(PREFIX + channel, {"text": "a"}, id=entry_id)
    for wanted, found in (
        ("1000-9", "1000-9"),
        ("900-0", "1000-9"),
        ("1000-10", "1000-10"),
        ("5-0", "1000-10"),
    ):
        assert await ann.call("read", id=wanted) == {"id": found}
    assert await bob.call("read", id="900-0") == {"id": "900-0"}
    assert [(event["user"], event["id"]) for event in await live_events(redis, channel)] == [
        ("ann", "1000-9"),
        ("ann", "1000-10"),
        ("bob", "900-0"),
    ]
    assert await ann.call("reads") == {"markers": {"ann": "1000-10"}}
    users = ["bob", "ann", "eve"]
    assert await ann.call("reads", users=users) == {"markers": {"bob": "900-0", "ann": "1000-10"}}
    assert 0 < await redis.ttl(f"streamgate:chat-markers:{{{PREFIX}{channel}}}") <= signals.MARKERS_TTL


async def test_what_is_no_marker(node: Node, redis: Redis, name: Name) -> None:
    """Nobody reads the future, nor without a name; questions are bounded."""
    channel = name("chat")
    ann = Person(node, channel, "ann")
    assert (await ann.refused("read", id="1-0")) == (404, "nothing in the room is as new as 1-0")
    message = await ann.say("a")
    assert (await ann.refused("read", id="9999999999999-0"))[0] == 404
    assert (await ann.refused("read", id=message + "0-"))[0] == 107
    nobody = Person(node, channel, "")
    assert await nobody.refused("read", id=message) == (103, "sign in to keep what you have read")
    assert await nobody.call("reads") == {"markers": {}}
    for users in (["a"] * 101, "ann", [1]):
        assert await ann.refused("reads", users=users) == (107, "users must be a list of at most 100 strings")
    assert await keys_beside(redis, channel) == set()


async def test_large_rooms_are_not_told(node: Node, redis: Redis, name: Name) -> None:
    """Beyond so many markers they are kept, and nothing more."""
    channel = name("chat")
    message = await Person(node, channel, "ann").say("a")
    people = [Person(node, channel, f"user{i}") for i in range(signals.TOLD_MARKERS + 5)]
    await asyncio.gather(*(person.call("read", id=message) for person in people))
    # The live stream itself keeps about a hundred.
    told = {event["user"] for event in await live_events(redis, channel)}
    assert told.isdisjoint({person.user for person in people[signals.TOLD_MARKERS :]})
    assert people[signals.TOLD_MARKERS - 1].user in told
    assert await people[-1].call("reads") == {"markers": {people[-1].user: message}}
