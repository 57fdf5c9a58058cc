"""Presence against a naive model: several nodes, a Redis that fails, and in the end everybody agrees."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pydantic import SecretStr

from service.errors import Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams import attendance as attendance_module
from service.streams.commands import Commands
from service.streams.link import Command, Reply
from service.streams.presence import Presence
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.presence import PresenceWorld, info

CHANNELS = ["chat:a", "chat:b"]
USERS = ["alice", "bob", ""]
SLOTS = 3

_prefixes = (f"fuzz-{number}:" for number in itertools.count())

slots = st.integers(0, SLOTS - 1)
channels = st.sampled_from(CHANNELS)
clients = st.integers(0, 5)


class FaultyCommands(Commands):
    """Loses a pipeline, or only the replies to it, when told to."""

    fault: Literal["none", "unsent", "unanswered"] = "none"

    async def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        fault, self.fault = self.fault, "none"
        if fault == "unsent":
            raise Unavailable(fault)
        replies = await super().pipeline(commands)
        if fault == "unanswered":
            raise Unavailable(fault)
        return replies


class Crowd(RuleBasedStateMachine):
    """Clients come and go on nodes that come and go.

    Args:
        summary_members: as in the settings.
    """

    def __init__(self, url: str, summary_members: int) -> None:
        super().__init__()
        self.url = url
        self.runner = asyncio.Runner()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(attendance_module, "SLICE", 2)
        self.patch.setattr(attendance_module, "CALLS", 2)
        self.summary_members = summary_members
        self.names = map("node{}".format, itertools.count())
        #: Nodes that are no more, and have not been struck off yet.
        self.dead: list[str] = []
        #: (slot, channel) to client to user, and who of them has lost its connection.
        self.model: dict[tuple[int, str], dict[str, str]] = {}
        self.lost: set[tuple[int, str, str]] = set()
        #: What subscribers know: those who were named, and how many more users there are in summaries.
        self.seen: dict[str, list[str]] = {channel: [] for channel in CHANNELS}
        self.summed = dict.fromkeys(CHANNELS, 0)
        self.read_to = dict.fromkeys(CHANNELS, b"-")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        self.commands = FaultyCommands(RedisSettings(url=SecretStr(self.url)), Metrics())
        self.connection = asyncio.create_task(self.commands.run())
        await asyncio.wait_for(self.commands.wait_connected(), 10)
        self.world = PresenceWorld(
            self.commands,
            next(_prefixes),
            self.patch,
            summary_members=self.summary_members,
            summary_seconds=0.001,
        )
        self.nodes: list[Presence] = []
        self.node_names: list[str] = []
        for _ in range(SLOTS):
            self.node_names.append(next(self.names))
            self.nodes.append(self.world.node(self.node_names[-1]))

    def teardown(self) -> None:
        try:
            if hasattr(self, "nodes"):
                self.settle()
                self.run(self._end())
        finally:
            self.runner.close()
            self.patch.undo()

    async def _end(self) -> None:
        self.connection.cancel()
        await asyncio.gather(self.connection, return_exceptions=True)

    # What happens

    def _join(self, slot: int, channel: str, number: int) -> None:
        client, user = f"{self.node_names[slot]}-{number}", USERS[number % len(USERS)]
        self.nodes[slot].join(channel, client, user, info(user or client), events=True)
        self.model.setdefault((slot, channel), {})[client] = user or client
        self.lost.discard((slot, channel, client))

    def _leave(self, slot: int, channel: str, number: int, *, at_once: bool) -> None:
        client = f"{self.node_names[slot]}-{number}"
        self.nodes[slot].leave(channel, client, at_once=at_once)
        if at_once:
            self.model.get((slot, channel), {}).pop(client, None)
            self.lost.discard((slot, channel, client))
        elif client in self.model.get((slot, channel), {}):
            self.lost.add((slot, channel, client))

    @rule(slot=slots, channel=channels, number=clients)
    def join(self, slot: int, channel: str, number: int) -> None:
        self._join(slot, channel, number)

    @rule(slot=slots, channel=channels, number=clients, at_once=st.booleans())
    def leave(self, slot: int, channel: str, number: int, *, at_once: bool) -> None:
        self._leave(slot, channel, number, at_once=at_once)

    @rule(slot=slots, fault=st.sampled_from(["none", "none", "unsent", "unanswered"]))
    def flush(self, slot: int, fault: Literal["none", "unsent", "unanswered"]) -> None:
        self._faulty(self.nodes[slot].flush(), fault)

    @rule(slot=slots, fault=st.sampled_from(["none", "none", "unsent", "unanswered"]))
    def beat(self, slot: int, fault: Literal["none", "unsent", "unanswered"]) -> None:
        self._faulty(self.nodes[slot].beat(), fault)

    @rule(slot=slots, channel=channels, fault=st.sampled_from(["none", "unsent", "unanswered"]))
    def read(self, slot: int, channel: str, fault: Literal["none", "unsent", "unanswered"]) -> None:
        """A node always knows its own, when it is answered at all."""
        found = self._faulty(self.nodes[slot].members(channel), fault)
        if found is not None:
            own = set(self.model.get((slot, channel), {}))
            gone = {client for at, name, client in self.lost if (at, name) == (slot, channel)}
            assert own - gone <= set(found)

    def _faulty(self, work: Coroutine[Any, Any, Any], fault: Literal["none", "unsent", "unanswered"]) -> Any:
        self.commands.fault = fault
        try:
            return self.run(work)
        except Unavailable:
            assert fault != "none"
            return None
        finally:
            self.commands.fault = "none"
            self.run(self._listen_in())

    @rule(
        changes=st.lists(st.tuples(slots, channels, clients, st.booleans()), min_size=1, max_size=6),
        cancelled=st.booleans(),
    )
    def all_at_once(self, changes: list[tuple[int, str, int, bool]], *, cancelled: bool) -> None:
        """Clients come and go while everything is under way, and readers give up."""

        async def mix() -> None:
            tasks = [asyncio.create_task(node.flush()) for node in self.nodes]
            readers = [asyncio.create_task(node.stats(name)) for node in self.nodes for name in CHANNELS]
            for slot, channel, number, comes in changes:
                await asyncio.sleep(0)
                if comes:
                    self._join(slot, channel, number)
                else:
                    self._leave(slot, channel, number, at_once=True)
                tasks.append(asyncio.create_task(self.nodes[slot].flush()))
            for reader in readers if cancelled else ():
                reader.cancel()
            await asyncio.gather(*tasks)
            await asyncio.gather(*readers, return_exceptions=True)

        self.run(mix())
        self.run(self._listen_in())

    @rule(seconds=st.sampled_from([1, 3, 10, 2000]))
    def wait(self, seconds: int) -> None:
        self.world.clock.now += seconds

    @rule(slot=slots, goes=st.booleans())
    def replace(self, slot: int, *, goes: bool) -> None:
        """A node is killed, or goes; another takes its place."""
        if goes:
            self.run(self.nodes[slot].aclose())
        self.dead.append(self.node_names[slot])
        self.node_names[slot] = next(self.names)
        self.nodes[slot] = self.world.node(self.node_names[slot])
        for channel in CHANNELS:
            self.model.pop((slot, channel), None)
        self.lost = {each for each in self.lost if each[0] != slot}

    @rule(slot=slots)
    def stop(self, slot: int) -> None:
        """A node is stopped for so long that the others take it for dead."""
        others = [node for node in self.nodes if node is not self.nodes[slot]]

        async def others_go_on() -> None:
            await self.world.listen(*others)
            await self.world.silence(self.node_names[slot])
            for node in others:
                await node.beat()
                await node.flush()
            await self._listen_in()

        self.run(others_go_on())

    @rule(scripts=st.booleans())
    def forget(self, *, scripts: bool) -> None:
        """Redis loses its scripts, or everything."""

        async def forget() -> None:
            await self._listen_in()
            keys = await self.commands.execute("KEYS", f"*{{{self.world.keys.prefix}*")
            if scripts:
                await self.commands.execute("SCRIPT", "FLUSH")
            elif keys:
                await self.commands.execute("DEL", *keys)

        self.run(forget())
        if not scripts:
            self.seen = {channel: [] for channel in CHANNELS}
            self.summed = dict.fromkeys(CHANNELS, 0)
            self.read_to = dict.fromkeys(CHANNELS, b"-")

    # What is so

    async def _listen_in(self) -> None:
        """Subscribers read on: nobody joins who is there, nobody leaves who is not."""
        for channel in CHANNELS:
            at = self.read_to[channel]
            live = self.world.keys.live(channel)
            entries = await self.commands.execute("XRANGE", live, b"(" + at if at != b"-" else at, "+")
            for kind, data in self.world.read(entries):
                seen = self.seen[channel]
                if kind == "data":
                    self.summed[channel] += data["joined"] - data["left"]
                elif kind == "join":
                    assert data not in seen or self.summary_members < SLOTS
                    seen.append(data)
                else:
                    assert data in seen or self.summary_members < SLOTS
                    seen.remove(data) if data in seen else seen.append("one less")
            if entries:
                self.read_to[channel] = entries[-1][0]

    @rule()
    def settle(self) -> None:
        """Everybody beats and writes, and the dead have been silent: all agree with the model."""
        for slot, channel, client in self.lost:
            del self.model[slot, channel][client]
        self.lost.clear()
        self.run(self._settle())

    async def _settle(self) -> None:
        for name in self.dead:
            await self.world.silence(name)
        self.dead.clear()
        await self.world.listen(*self.nodes)
        await self._write_everything()
        for channel in CHANNELS:
            expected = self._expected(channel)
            for node in self.nodes:  # where nobody is left, it is readers who remove the dead
                assert set(await node.members(channel)) == set(expected)
                assert await node.stats(channel) == (len(expected), len(set(expected.values())))
        await self._write_everything()
        await self._listen_in()
        for channel in CHANNELS:
            users, seen = set(self._expected(channel).values()), self.seen[channel]
            if self.summary_members >= SLOTS:
                assert sorted(seen) == sorted(users)
                assert self.summed[channel] == 0
            else:
                assert len(seen) - 2 * seen.count("one less") + self.summed[channel] == len(users)

    async def _write_everything(self) -> None:
        for _ in range(3):  # a summary is due a moment after what it tells of
            for node in self.nodes:
                await node.beat()
                await node.flush()
            self.world.clock.now += 1

    def _expected(self, channel: str) -> dict[str, str]:
        """Client to user."""
        expected: dict[str, str] = {}
        for slot in range(SLOTS):
            expected |= self.model.get((slot, channel), {})
        return expected


@pytest.mark.parametrize("summary_members", [200, 1])
def test_in_the_end_everybody_agrees(redis_process: RedisProcess, summary_members: int) -> None:
    """With joins and leaves told one by one, and with summaries."""

    class Here(Crowd):
        def __init__(self) -> None:
            super().__init__(redis_process.url, summary_members)

    run_state_machine_as_test(Here, settings=settings(stateful_step_count=30))
