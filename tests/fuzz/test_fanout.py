"""Outbox, flusher and hub against a naive model: whoever reads gets what is promised, and no byte is lost."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.channels import Namespace
from service.hub import flusher as flusher_module
from service.hub.flusher import SLICE
from tests.unit.fakes.clock import Clock, VirtualLoop
from tests.unit.fakes.fanout import HubWorld, actually_held, publication, start_at

#: Every mode, with and without an interval.
CHANNELS = {
    "log:a": Namespace(mode="log"),
    "log:gathered": Namespace(mode="log", coalesce_ms=20),
    "latest:a": Namespace(mode="latest"),
    "latest:gathered": Namespace(mode="latest", coalesce_ms=50),
}

CLIENTS = 20  # more than a stride, so that one fan-out takes several slices
OUTBOX_LIMIT = 3000
HELD_LIMIT = 12_000

names = st.sampled_from(sorted(CHANNELS))
# One of them, all, or half: what happens to many at once is not left to chance.
everybody = range(CLIENTS)
clients = st.one_of(
    st.integers(0, CLIENTS - 1).map(lambda i: range(i, i + 1)),
    st.sampled_from([everybody, everybody[::2], everybody[1::2]]),
)
sizes = st.sampled_from([1, 1, 10, 200, 1500, 40_000])
bursts = st.lists(st.tuples(names, st.integers(1, 5), sizes), min_size=1, max_size=4)


@dataclasses.dataclass
class Subscription:
    """What the model knows of one: the publications delivered while it lasted."""

    due: list[int] = dataclasses.field(default_factory=list)


class Client:
    """A socket, and what the model expects of it."""

    def __init__(self, world: HubWorld) -> None:
        self.socket = world.socket(limit=OUTBOX_LIMIT)
        self.subscriptions: dict[str, Subscription] = {}
        self.replies: list[int] = []
        #: Its socket has been full, or may have been.
        self.was_full = False
        self.ended = False
        self.written_at_end = 0


class FanOut(RuleBasedStateMachine):
    """All that can happen to a hub, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.patch = pytest.MonkeyPatch()
        # Each look at the clock ends the slice: a fan-out is interrupted wherever it may be.
        self.patch.setattr(flusher_module, "time", Clock(step=SLICE))
        self.next = 10

    def run(self, step: Callable[[], Any]) -> Any:
        """Do something inside the loop, for a single turn of it."""

        async def turn() -> Any:
            result = step()
            return await result if asyncio.iscoroutine(result) else result

        return self.runner.run(turn())

    @initialize()
    def begin(self) -> None:
        def make() -> None:
            self.world = HubWorld(held_limit=HELD_LIMIT, linger=10**6)
            self.clients = [self._new_client() for _ in range(CLIENTS)]

        self.run(make)
        for name in CHANNELS:
            self.subscribe(who=everybody, name=name)

    def _new_client(self) -> Client:
        client = Client(self.world)
        client.socket.owner.on_overflow = functools.partial(self._overflow, client)
        return client

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.run(self._settle)
                self.final()
        finally:
            self.runner.close()
            self.patch.undo()

    async def _settle(self) -> None:
        """All who have not ended read everything."""
        for client in self.clients:
            if not client.ended:
                client.socket.open()
        await asyncio.sleep(1)

    def _overflow(self, client: Client) -> None:
        assert client.was_full, "a client that always reads is never slow"
        self._end(client)

    def _end(self, client: Client) -> None:
        """What a session does when it ends."""
        client.ended = True
        client.written_at_end = len(client.socket.writes)
        for name in list(client.subscriptions):
            self._leave(client, name)

    def _leave(self, client: Client, name: str) -> None:
        del client.subscriptions[name]
        channel = self.world.hub.get(name)
        assert channel is not None
        self.world.hub.remove(channel, client.socket.outbox)

    def _alive(self, who: range) -> list[Client]:
        return [self.clients[index] for index in who if not self.clients[index].ended]

    # What happens

    @rule(who=clients, name=names)
    def subscribe(self, who: range, name: str) -> None:
        for client in self._alive(who):
            if name not in client.subscriptions:
                self.run(functools.partial(self._join, client, name))

    async def _join(self, client: Client, name: str) -> None:
        self.world.feed.start = start_at(self.next)
        await self.world.subscribed(name, CHANNELS[name], client.socket)
        # What is still pending of an earlier subscription comes before its answer.
        client.subscriptions[name] = Subscription()
        client.socket.outbox.send(b"joined:%b 0 -\n" % name.encode())

    @rule(who=clients, name=names)
    def unsubscribe(self, who: range, name: str) -> None:
        def leave() -> None:
            for client in self._alive(who):
                if name in client.subscriptions:
                    self._leave(client, name)
                    client.socket.outbox.send(b"left:%b 0 -\n" % name.encode())

        self.run(leave)

    @rule(who=clients)
    def reply(self, who: range) -> None:
        def answer() -> None:
            for client in self._alive(who):
                self.next += 1
                client.replies.append(self.next)
                client.socket.outbox.send(b"reply %d -\n" % self.next)

        self.run(answer)

    @rule(batches=bursts)
    def deliver(self, batches: list[tuple[str, int, int]]) -> None:
        """One read of the tail: batches of several channels, then a flush."""

        def read() -> None:
            for name, count, size in batches:
                channel = self.world.hub.get(name)
                if channel is None:
                    continue
                numbers = [self.next + i + 1 for i in range(count)]
                self.next += count
                for client in self.clients:
                    if name in client.subscriptions:
                        client.subscriptions[name].due += numbers
                data = b'"%b"' % (b"x" * size)
                self.world.hub.deliver(name, [publication(n, data) for n in numbers], (self.next, 0))
            self.world.hub.flush()

        self.run(read)

    @rule(name=names, has_newest=st.booleans())
    def gap(self, name: str, *, has_newest: bool) -> None:
        """Continuity breaks: `log` subscribers are unsubscribed, the others get the newest."""
        if self.world.hub.get(name) is None:
            return
        self.next += 1
        newest = publication(self.next) if has_newest else None
        is_log = CHANNELS[name].mode == "log"
        told = [c for c in self.clients if name in c.subscriptions]
        for client in told:
            if is_log:
                del client.subscriptions[name]
            elif has_newest:
                client.subscriptions[name].due.append(self.next)
        self.world.gaps.clear()

        def break_off() -> None:
            self.world.hub.gap(name, start_at(self.next, newest))
            for outbox, _ in self.world.gaps:
                outbox.send(b"left:%b 0 -\n" % name.encode())
            self.world.hub.flush()

        self.run(break_off)
        assert {id(o) for o, _ in self.world.gaps} == (
            {id(c.socket.outbox) for c in told} if is_log else set()
        )

    @rule(who=clients)
    def block(self, who: range) -> None:
        def full() -> None:
            for client in self._alive(who):
                client.was_full = True
                client.socket.outbox.block()

        self.run(full)

    @rule(who=clients, room=st.sampled_from([1, 100, 2000, 70_000]))
    def leave_room(self, who: range, room: int) -> None:
        """The sockets will fill up after so many bytes."""
        for client in self._alive(who):
            client.was_full = True
            client.socket.room = room

    @rule(who=clients, room=st.sampled_from([None, None, 1, 100, 2000, 70_000]))
    def unblock(self, who: range, room: int | None) -> None:
        """The clients read: a part, or everything."""

        def read() -> None:
            for index in who:  # also those that have ended: their sockets may drain after the close
                self.clients[index].was_full |= room is not None
                self.clients[index].socket.open(room)

        self.run(read)

    @rule(
        who=clients, batches=bursts, leaving=st.none() | names, room=st.sampled_from([None, 1, 100, 70_000])
    )
    def stall(
        self, who: range, batches: list[tuple[str, int, int]], leaving: str | None, room: int | None
    ) -> None:
        """Sockets are full during a burst, and maybe the clients leave a channel, before they read again."""
        self.block(who=who)
        self.deliver(batches=batches)
        if leaving is not None:
            self.unsubscribe(who=who, name=leaving)
        self.unblock(who=who, room=room)

    @rule(index=st.integers(0, CLIENTS - 1))
    def close(self, index: int) -> None:
        def end() -> None:
            for client in self._alive(range(index, index + 1)):
                client.socket.outbox.close()
                self._end(client)

        self.run(end)

    @rule()
    def come_back(self) -> None:
        """Those who ended are followed by others."""

        def replace() -> None:
            self.clients = [self._new_client() if client.ended else client for client in self.clients]

        self.run(replace)

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.01, 0.03, 0.1]))
    def wait(self, seconds: float) -> None:
        self.run(lambda: asyncio.sleep(seconds))

    # What always holds

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def held_is_exact(self) -> None:
        outboxes = [client.socket.outbox for client in self.clients]
        for outbox in outboxes:
            assert outbox.held == actually_held(outbox)
            assert outbox.held <= OUTBOX_LIMIT or outbox.closed or self._only_pending(outbox)
        flusher = self.world.flusher
        assert flusher.held == sum(outbox.held for outbox in outboxes)
        assert flusher.blocked == {o for o in outboxes if o.blocked and not o.closed}

    @staticmethod
    def _only_pending(outbox: Any) -> bool:
        """What was handed over before the socket was full does not make a session slow by itself."""
        return bool(outbox.pending)

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def nothing_follows_the_end(self) -> None:
        for client in self.clients:
            if client.ended:
                assert client.socket.outbox.closed
                assert client.socket.outbox.blocked
                # The write in which it ended may have been under way.
                assert len(client.socket.writes) <= client.written_at_end + 1

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def order_and_no_duplicates(self) -> None:
        """Of a channel nothing older follows newer, nothing comes twice, whatever the mode."""
        for client in self.clients:
            for name in CHANNELS:
                numbers = client.socket.numbers(name)
                assert all(a < b for a, b in itertools.pairwise(numbers)), name
            replies = client.socket.numbers("reply")
            assert replies == client.replies[: len(replies)]

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def nothing_comes_outside_a_subscription(self) -> None:
        """Publications of a channel stand between its `joined` and its `left`."""
        for client in self.clients:
            inside: set[str] = set()
            for line in client.socket.written.splitlines():
                word = line.split(b" ", 1)[0].decode()
                if word.startswith("joined:"):
                    inside.add(word.removeprefix("joined:"))
                elif word.startswith("left:"):
                    inside.discard(word.removeprefix("left:"))
                elif word != "reply":
                    assert word in inside

    def final(self) -> None:
        """Everybody has read everything."""
        self.held_is_exact()
        self.order_and_no_duplicates()
        self.nothing_follows_the_end()
        for client in self.clients:
            if client.ended:
                continue
            assert client.socket.numbers("reply") == client.replies
            for name, subscription in client.subscriptions.items():
                got = self._since_joined(client, name)
                if CHANNELS[name].mode == "log":
                    assert got == subscription.due
                else:
                    assert got[-1:] == subscription.due[-1:]
                    assert set(got) <= set(subscription.due)

    @staticmethod
    def _since_joined(client: Client, name: str) -> list[int]:
        """What a client was sent of a channel since its last answer to subscribe."""
        found: list[int] = []
        for line in client.socket.written.splitlines():
            word, number, _ = line.split(b" ", 2)
            if word == b"joined:" + name.encode():
                found.clear()
            elif word == name.encode():
                found.append(int(number))
        return found


FanOut.TestCase.settings = settings(stateful_step_count=30)
test_fan_out = FanOut.TestCase
