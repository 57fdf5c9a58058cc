"""streams.presence: nodes that die, go, are taken for dead, and come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.streams import attendance as attendance_module
from service.streams.commands import Commands
from tests.support.redis_process import StartRedis
from tests.unit.fakes.presence import PresenceWorld, info, join
from tests.unit.fakes.redis import connected_commands

Name = Callable[[str], str]


@pytest.fixture
def world(commands: Commands, name: Name, monkeypatch: pytest.MonkeyPatch) -> PresenceWorld:
    return PresenceWorld(commands, name("presence"), monkeypatch)


async def test_members_of_a_dead_node_leave_once(world: PresenceWorld) -> None:
    """Whoever has members in the same channel removes them; a user who is elsewhere, too, stays."""
    a, b, dead = world.node("a"), world.node("b"), world.node("dead")
    join(dead, "one", "alice")
    join(dead, "two", "bob")
    join(a, "three", "bob")
    join(b, "four", "carol")
    for node in (dead, a, b):
        await node.flush()
    await world.listen(a, b, dead)
    await world.silence("dead")
    for node in (a, b):
        await node.beat()
        await node.flush()
    assert set(await b.members("chat:a")) == {"three", "four"}
    told = await world.told("chat:a")
    assert sorted(told[:3]) == [("join", "alice"), ("join", "bob"), ("join", "carol")]
    assert told[3:] == [("leave", "alice")]


async def test_readers_see_no_dead(world: PresenceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """They remove them where nobody else does; slice by slice."""
    monkeypatch.setattr(attendance_module, "SLICE", 2)
    dead, reader = world.node("dead"), world.node("reader")
    for client in "abcde":
        join(dead, client)
    await dead.flush()
    await world.listen(reader)
    await world.silence("dead")
    await reader.beat()
    assert await reader.stats("chat:a") == (0, 0)
    assert await reader.members("chat:a") == {}
    assert await world.left_over() == set()
    assert sorted((await world.told("chat:a"))[5:]) == [("leave", client) for client in "abcde"]


async def test_who_joins_finds_the_dead(world: PresenceWorld) -> None:
    """Nodes that died before this one began are found with the first member in their channel."""
    dead, late = world.node("dead"), world.node("late")
    join(dead, "one")
    await dead.flush()
    await world.commands.execute("DEL", world.keys.nodes())
    join(late, "two")
    await late.flush()
    assert await world.told("chat:a") == [("join", "one"), ("join", "two"), ("leave", "one")]


async def test_a_new_node_is_not_taken_for_dead(world: PresenceWorld) -> None:
    """One that has begun since the last heartbeat."""
    a, late = world.node("a"), world.node("late")
    join(a, "one")
    await a.flush()
    join(late, "two")
    await late.flush()
    assert set(await a.members("chat:a")) == {"one", "two"}


async def test_who_was_taken_for_dead_comes_back(world: PresenceWorld) -> None:
    """A node that was stopped for too long writes all its members anew."""
    a, stopped = world.node("a"), world.node("stopped")
    join(stopped, "one")
    join(a, "two")
    await stopped.flush()
    await a.flush()
    await world.listen(a)
    await world.silence("stopped")
    await a.beat()
    assert set(await a.members("chat:a")) == {"two"}
    stopped.leave("chat:a", "one", at_once=True)
    join(stopped, "three")
    await stopped.flush()  # under a name that nobody counts any more
    await stopped.beat()
    await stopped.flush()
    assert set(await a.members("chat:a")) == set(await stopped.members("chat:a")) == {"two", "three"}
    assert await a.stats("chat:a") == (2, 2)


async def test_who_has_not_listened_does_not_judge(world: PresenceWorld) -> None:
    """After Redis was away for long all nodes are silent, and none is struck off."""
    a, b = world.node("a"), world.node("b")
    join(a, "one")
    join(b, "two")
    await a.flush()
    await b.flush()
    await world.listen(a, b)
    for node in ("a", "b"):
        await world.silence(node)
    world.clock.now += world.settings.dead_seconds  # for so long neither has heard anything
    await a.beat()
    await b.beat()
    assert await world.alive() == ["a", "b"]
    assert (await a.stats("chat:a"))[0] == 2
    assert await world.told("chat:a") == [("join", "one"), ("join", "two")]


async def test_a_node_that_goes(world: PresenceWorld) -> None:
    """What is pending is written, and its members leave after the grace."""
    a, going = world.node("a"), world.node("going")
    join(a, "stays")
    await a.flush()
    await world.listen(a)
    join(going, "one")
    going.leave("chat:a", "one", at_once=False)
    await going.aclose()
    await a.beat()
    assert set(await a.members("chat:a")) == {"stays", "one"}
    for name in await world.commands.execute("ZRANGE", world.keys.nodes(), 0, -1):
        grace = -int(world.settings.grace_seconds * 1000) - 1
        await world.commands.execute("ZINCRBY", world.keys.nodes(), grace, name)  # time passes
    await a.beat()
    assert set(await a.members("chat:a")) == {"stays"}


async def test_a_flushed_redis(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next heartbeat finds the node missing, and everything is written anew."""
    async with connected_commands(start_redis().url) as commands:
        world = PresenceWorld(commands, "", monkeypatch)
        a, b = world.node("a"), world.node("b")
        join(a, "one")
        join(b, "two", channel="chat:b")
        for node in (a, b):
            await node.flush()
        await commands.execute("FLUSHALL")
        for node in (a, b):
            await node.beat()
            await node.flush()
        assert await b.stats("chat:a") == (1, 1)
        assert await a.members("chat:b") == {"two": info("two")}
