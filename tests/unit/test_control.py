"""streams.control: commands to all nodes are heard in order; what was revoked is known first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from service.errors import Unavailable
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.control import KEPT_REVOCATIONS, Control
from service.streams.keys import Keys
from tests.unit.fakes.clock import turns, virtual_time

#: Ms since the epoch, far from now.
LATER = 1 << 42


class _Commands:
    """A Redis that knows revocations."""

    def __init__(self) -> None:
        self.revoked: dict[str, int] = {}
        self.failure: Exception | None = None
        self.reads = 0
        self.clock_offset = 0.0

    async def wait_connected(self) -> None:
        """It is."""

    async def execute(self, *command: Any) -> Any:
        if command[0] == "ZADD":
            _, _, _, *kept = command
            self.revoked |= dict(zip(kept[1::2], kept[::2], strict=True))
            return len(kept) // 2
        assert command[0] == "ZRANGE"
        self.reads += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return [[user.encode(), float(before)] for user, before in self.revoked.items()]


class _Channel:
    listener: Control | None = None


class _Hub:
    """A hub that follows the stream of commands at once, or after some failures."""

    def __init__(self) -> None:
        self.channel = _Channel()
        self.failures = 0

    async def hold(self, name: str, namespace: Any) -> _Channel:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no")
        return self.channel


class _Orders:
    """Keeps what is to be carried out."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.times_missed = 0

    def carry_out(self, command: dict[str, Any]) -> str:
        self.given.append(command)
        if command["command"] == "fails":
            raise KeyError("on purpose")
        return str(command["command"])

    def missed(self) -> None:
        self.times_missed += 1


class _World:
    def __init__(self) -> None:
        self.commands, self.hub, self.orders, self.metrics = _Commands(), _Hub(), _Orders(), Metrics()
        self.control = Control(cast(Any, self.commands), Keys(""), cast(Any, self.hub), self.metrics)
        self.control.attach(self.orders)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.control.run())
        await turns(20)
        yield
        task.cancel()
        await asyncio.wait([task])

    def hears(self, *commands: Any) -> None:
        """Entries of the stream."""
        self.control.heard([Publication((1, 0), 1, orjson.dumps(command)) for command in commands])


def _revoke(user: str, before_ms: int) -> dict[str, Any]:
    return {"command": "revoke", "user": user, "before_ms": before_ms}


@virtual_time
async def test_revocations_are_known_before_it_is_ready() -> None:
    """However long that takes."""
    world = _World()
    world.commands.revoked = {"ann": 1000}
    world.commands.failure = Unavailable("no")
    world.hub.failures = 2
    async with world.running():
        await asyncio.sleep(10)
        assert world.hub.channel.listener is world.control
        assert not world.control.ready
        world.commands.failure = None
        await asyncio.sleep(60)
        assert world.control.ready
        assert world.orders.given == [_revoke("ann", 1000)]


@pytest.mark.parametrize(
    ("user", "issued_at", "void"),
    [("ann", None, True), ("ann", 1.0, True), ("ann", 1.001, False), ("bob", None, False)],
)
@virtual_time
async def test_revoked(user: str, issued_at: float | None, *, void: bool) -> None:
    """What was issued up to then, and what does not tell when."""
    world = _World()
    world.commands.revoked = {"ann": 1000}
    async with world.running():
        assert world.control.revoked(user, issued_at) is void


@virtual_time
async def test_the_latest_revocation_counts() -> None:
    """An earlier one that is heard later, or twice, changes nothing."""
    world = _World()
    async with world.running():
        world.hears(_revoke("ann", 2000), _revoke("ann", 1000), _revoke("ann", 2000), _revoke("ann", 3000))
        assert world.orders.given == [_revoke("ann", 2000), _revoke("ann", 3000)]
        assert world.control.revoked("ann", 2.5)


@virtual_time
async def test_what_was_missed_is_read() -> None:
    """Revocations stand in Redis beside the stream."""
    world = _World()
    async with world.running():
        assert world.commands.reads == 1
        world.commands.revoked = {"ann": 1000}
        world.control.missed()
        await turns(20)
        assert world.commands.reads == 2
        assert world.orders.times_missed == 1
        assert world.control.revoked("ann", 1.0)


@virtual_time
async def test_redis_was_emptied() -> None:
    """What still counts is written down anew for nodes that start later; what is over is forgotten."""
    world = _World()
    async with world.running():
        world.hears(_revoke("ann", LATER), _revoke("bob", 1000))
        world.control.missed()
        await turns(20)
        assert world.commands.revoked == {"ann": LATER}
        assert world.control.revoked("ann", 1.0)
        assert not world.control.revoked("bob", 1.0)


@virtual_time
async def test_a_command_that_goes_wrong() -> None:
    """The next is carried out all the same; what is no command at all is passed over."""
    world = _World()
    async with world.running():
        world.hears({"command": "fails"}, 5, {"command": "ban"})
        assert [command["command"] for command in world.orders.given] == ["fails", "ban"]
        count = world.metrics.registry.get_sample_value
        assert count("streamgate_control_commands_total", {"command": "failed"}) == 1
        assert count("streamgate_control_commands_total", {"command": "ban"}) == 1


async def test_old_revocations_are_forgotten(commands: Commands, name: Callable[[str], str]) -> None:
    """By then no token is good any more that they would make void; and a later one stays."""
    keys = Keys(name("revoked"))
    control = Control(commands, keys, cast(Any, _Hub()), Metrics())
    now = await control.revoke("ann")
    for user, age in (("old", KEPT_REVOCATIONS + 60), ("young", KEPT_REVOCATIONS - 60)):
        await control.revoke(user, now - age * 1000)
    await control.revoke("ann", now - 1000)
    reply = await commands.execute("ZRANGE", keys.revocations(), 0, -1, "WITHSCORES")
    assert reply == [[b"young", now - (KEPT_REVOCATIONS - 60) * 1000], [b"ann", now]]
