"""streams.nodes: who lives; a name that was struck off is never used again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from service.errors import CommandFailed, Unavailable
from service.sections import PresenceSettings
from service.streams import nodes as nodes_module
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.link import Command, Reply
from service.streams.nodes import Nodes
from tests.unit.fakes.clock import Clock

Name = Callable[[str], str]
Make = Callable[[str], Nodes]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(nodes_module, "time", clock)
    return clock


@pytest.fixture
def keys(name: Name) -> Keys:
    return Keys(name("nodes"))


@pytest.fixture
def make(clock: Clock, commands: Commands, keys: Keys) -> Make:
    return lambda name: Nodes(PresenceSettings(), commands, keys, name)


async def _age(commands: Commands, keys: Keys, nodes: Nodes, seconds: int) -> None:
    await commands.execute("ZINCRBY", keys.nodes(), -seconds * 1000, nodes.name)


async def _listen(clock: Clock, nodes: Nodes) -> None:
    for _ in range(4):
        await nodes.beat()
        clock.now += 5


async def test_the_silent_are_struck_off(make: Make, commands: Commands, keys: Keys, clock: Clock) -> None:
    """By one who has listened; everybody who knew them hears of it."""
    a, b, silent = make("a"), make("b"), make("silent")
    await silent.beat()
    assert await a.beat() == await b.beat() == set()
    await _age(commands, keys, silent, 16)
    assert await b.beat() == set()
    assert silent.name in b.known
    await _listen(clock, b)
    assert silent.name not in b.known
    assert await a.beat() == {silent.name}
    assert await a.beat() == set()


async def test_who_was_struck_off_has_another_name(make: Make, commands: Commands, keys: Keys) -> None:
    """What it has written under the former one may be gone."""
    node = make("a")
    assert not node.registered
    await node.beat()
    assert node.registered
    former = node.name
    await commands.execute("ZREM", keys.nodes(), former)
    assert await node.beat() == {former}
    assert node.name != former
    assert await node.beat() == set()
    assert node.known == {node.name}


async def test_another_redis(make: Make, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that was restarted, or took over, may lack the last writes: the node has another name there."""
    node = make("a")
    await node.beat()
    former = node.name
    pipeline = commands.pipeline

    async def other(commands: Sequence[Command]) -> list[Reply]:
        return [b"run_id:0123\r\n", *(await pipeline(commands))[1:]]

    monkeypatch.setattr(commands, "pipeline", other)
    assert await node.beat() == {former}
    assert former in node.known, "others wait until it has written all it has"
    assert await node.beat() == set()


async def test_a_redis_that_tells_nothing_of_itself(
    make: Make, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where INFO is not allowed, it is taken for the same."""
    pipeline = commands.pipeline

    async def silent(commands: Sequence[Command]) -> list[Reply]:
        return [CommandFailed("NOPERM"), *(await pipeline(commands))[1:]]

    monkeypatch.setattr(commands, "pipeline", silent)
    node = make("a")
    name = node.name
    await node.beat()
    await node.beat()
    assert node.name == name


@pytest.mark.parametrize("failure", [Unavailable("away"), CommandFailed("OOM")])
async def test_an_unanswered_heartbeat(
    make: Make, commands: Commands, keys: Keys, clock: Clock, failure: Exception
) -> None:
    """Changes nothing, but that the node has to listen anew before it strikes others off."""
    node, silent = make("a"), make("silent")
    await silent.beat()
    await _listen(clock, node)
    await _age(commands, keys, silent, 16)
    with pytest.MonkeyPatch.context() as patch:

        async def fails(commands: Sequence[Command]) -> list[Reply]:
            if isinstance(failure, CommandFailed):
                return [failure, failure]
            raise failure

        patch.setattr(commands, "pipeline", fails)
        with pytest.raises(type(failure)):
            await node.beat()
    assert await node.beat() == set()
    await _listen(clock, node)
    assert node.known == {node.name}


async def test_a_node_that_retires(make: Make, commands: Commands, keys: Keys, clock: Clock) -> None:
    """It is dead a given time from now."""
    node, going = make("a"), make("going")
    await going.beat()
    await _listen(clock, node)
    await going.retire(5)
    assert await node.beat() == set()
    await _age(commands, keys, going, 6)
    assert await node.beat() == {going.name}
    await going.retire(5)
    assert await commands.execute("ZSCORE", keys.nodes(), going.name) is None
