"""streams.mailbox: letters reach a node that lives, in order, and nothing is left of one that does not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from service.errors import Unavailable
from service.hub.publication import Publication
from service.streams.keys import Keys
from service.streams.mailbox import MAX_SENDING, Mailbox
from tests.unit.fakes.clock import turns, virtual_time

KEY = "streamgate:live:mailbox:{here}"


class _Commands:
    """A Redis that knows streams by their number of entries."""

    def __init__(self) -> None:
        self.streams: dict[str, int] = {}
        self.failures = 0
        self.go = asyncio.Event()
        self.go.set()
        self.unlinked: list[str] = []
        self.kept = 0

    async def wait_connected(self) -> None:
        """It is."""

    async def execute_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no")
        self.kept += 1
        (expire, key, _), (trim, _, how, _) = commands
        assert (expire, trim, how) == ("EXPIRE", "XTRIM", "MINID")
        return [int(key in self.streams), 0]

    async def transaction(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        assert [command[0] for command in commands] == ["XADD", "EXPIRE"]
        self.streams[commands[0][1]] = 1
        return [b"1-0", 1]

    async def execute(self, *command: Any) -> Any:
        assert (command[0], command[2]) == ("XADD", "NOMKSTREAM")
        await self.go.wait()
        if command[1] not in self.streams:
            return None
        self.streams[command[1]] += 1
        return b"2-0"

    async def pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.unlinked += commands[0][1:]
        return [1]


class _Channel:
    listener: Mailbox | None = None
    cursor = (1, 0)


class _Hub:
    """Follows the stream at once."""

    def __init__(self) -> None:
        self.channel = _Channel()
        self.synced = 0
        self.held: list[str] = []

    async def hold(self, name: str, namespace: Any) -> _Channel:
        self.held.append(name)
        return self.channel

    async def sync(self, channel: _Channel) -> None:
        self.synced += 1
        raise Unavailable("no")


class _Receiver:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.times_missed = 0

    def mail(self, letter: dict[str, Any]) -> None:
        self.letters.append(letter)
        if "fails" in letter:
            raise KeyError("on purpose")

    def missed(self) -> None:
        self.times_missed += 1


class _World:
    def __init__(self) -> None:
        self.commands, self.hub, self.receiver = _Commands(), _Hub(), _Receiver()
        self.mailbox = Mailbox("here", cast(Any, self.commands), Keys(""), cast(Any, self.hub), self.receiver)
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.running = asyncio.create_task(self.mailbox.run())
        await asyncio.sleep(30)  # takes no time
        assert self.hub.channel.listener is self.mailbox

    async def end(self) -> None:
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def _letter(letter: Any) -> Publication:
    return Publication((1, 1), 0, orjson.dumps(letter))


@virtual_time
async def test_the_stream_exists_before_it_is_followed() -> None:
    """And is made anew where it was lost."""
    world = _World()
    world.commands.failures = 2
    await world.start()
    assert world.hub.held == [KEY]
    assert KEY in world.commands.streams
    world.commands.streams.clear()
    world.mailbox.missed()
    await turns()
    assert KEY in world.commands.streams
    assert world.receiver.times_missed == 1
    kept = world.commands.kept
    world.commands.failures = 1
    await asyncio.sleep(60)
    assert world.commands.kept >= kept + 10
    await world.end()


@virtual_time
async def test_letters_go_only_to_nodes_that_live() -> None:
    """Whether there is one is told."""
    world = _World()
    world.commands.streams["streamgate:live:mailbox:{there}"] = 1
    assert await world.mailbox.send("there", {"a": 1}) is True
    assert await world.mailbox.send("nowhere", {"a": 1}) is False
    assert world.commands.streams == {"streamgate:live:mailbox:{there}": 2}


@virtual_time
async def test_what_is_on_its_way_is_bounded() -> None:
    """Redis does not answer: nothing more is taken."""
    world = _World()
    world.commands.go.clear()
    big = {"data": "x" * (MAX_SENDING - 100)}
    sending = asyncio.create_task(world.mailbox.send("there", big))
    await turns()
    with pytest.raises(Unavailable):
        await world.mailbox.send("there", big)
    world.commands.go.set()
    assert await sending is False
    assert await world.mailbox.send("there", big) is False


@virtual_time
async def test_letters_are_handed_on_in_order() -> None:
    """One that goes wrong, or is none, keeps no other from being read."""
    world = _World()
    letters = [{"n": 1}, {"fails": True}, {"n": 2}]
    world.mailbox.heard([_letter(letters[0]), _letter("none"), *map(_letter, letters[1:])])
    assert world.receiver.letters == letters


@virtual_time
async def test_settling_asks_redis_as_far_as_it_can_be_asked() -> None:
    """While Redis is away nothing more can come."""
    world = _World()
    await world.mailbox.settle()
    assert world.hub.synced == 0
    await world.start()
    await world.mailbox.settle()
    assert world.hub.synced == 1
    await world.end()


@virtual_time
async def test_a_node_that_goes_takes_its_stream_with_it() -> None:
    """And the epoch beside it."""
    world = _World()
    await world.mailbox.aclose()
    assert world.commands.unlinked == [KEY, "streamgate:epoch:live:mailbox:{here}"]
