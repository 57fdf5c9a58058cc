"""streams.presence: nodes at work by themselves, whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.errors import Unavailable
from service.metrics import Metrics
from service.sections import PresenceSettings
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.presence import Presence
from tests.support.redis_process import StartRedis
from tests.support.waiting import eventually
from tests.unit.fakes.presence import join
from tests.unit.fakes.redis import connected_commands

Name = Callable[[str], str]

QUICK = PresenceSettings(batch_ms=1, heartbeat_seconds=0.05, dead_seconds=1, grace_seconds=0.1)


async def test_a_node_at_work(commands: Commands, name: Name) -> None:
    """By itself it writes, waits for the grace, and removes what nodes that died or went have left."""
    keys = Keys(name("work"))
    a, b, dead = (Presence(QUICK, commands, keys, each, Metrics()) for each in ("a", "b", "dead"))
    join(dead, "ghost")
    await dead.flush()
    running = {node: asyncio.create_task(node.run()) for node in (a, b)}
    join(a, "one")
    join(a, "two")
    join(b, "three")

    async def are(*clients: str) -> None:
        async def ask() -> bool:
            return set(await b.members("chat:a")) == set(clients)

        await eventually(ask, f"{clients} are there")

    await are("one", "two", "three")  # when the dead has been silent for long enough
    a.leave("chat:a", "one", at_once=False)
    await are("two", "three")
    await end(running[a])
    await a.aclose()
    await are("three")
    await end(running[b])


async def end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("durable", [False, True], ids=["data lost", "data kept"])
async def test_redis_is_away(start_redis: StartRedis, *, durable: bool) -> None:
    """Nothing is raised, nothing forgotten; when it is back, it has what the nodes have."""
    server = start_redis(durable=durable)
    async with connected_commands(server.url) as commands:
        a, b = (Presence(QUICK, commands, Keys(""), each, Metrics()) for each in ("a", "b"))
        running = [asyncio.create_task(node.run()) for node in (a, b)]

        async def are(*clients: str) -> None:
            async def ask() -> bool:
                try:
                    members, stats = set(await b.members("chat:a")), await b.stats("chat:a")
                except Unavailable:
                    return False
                return (members, stats) == (set(clients), (len(clients), len(clients)))

            await eventually(ask, f"{clients} are there")

        join(a, "stays")
        join(a, "goes")
        join(b, "there")
        await are("stays", "goes", "there")
        server.kill()
        await eventually(lambda: not commands.connected, "Redis is missed")
        join(a, "comes")
        a.leave("chat:a", "goes", at_once=True)
        with pytest.raises(Unavailable):
            await a.members("chat:a")
        server.start()
        await are("stays", "comes", "there")
        assert not any(task.done() for task in running)
        for task in running:
            await end(task)
        server.kill()
        await eventually(lambda: not commands.connected, "Redis is missed")
        await a.aclose()


async def test_a_node_that_is_refused(
    commands: Commands, name: Name, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps trying, and so gets over whatever is wrong with Redis."""
    keys = Keys(name("refused"))
    await commands.execute("SET", keys.nodes(), "in the way")
    node = Presence(QUICK, commands, keys, "a", Metrics())
    join(node, "one")
    running = asyncio.create_task(node.run())
    await eventually(lambda: "refuses: WRONGTYPE" in caplog.text, "the refusal is logged")
    await commands.execute("DEL", keys.nodes())
    written = keys.beside("presence", "chat:a")
    await eventually(lambda: commands.execute("EXISTS", written), "the member is written")
    await end(running)
