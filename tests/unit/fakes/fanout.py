"""A hub without Redis and sockets: a fake feed, sockets that fill up, a wire format that is easy to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from service.channels import Namespace
from service.hub.flusher import Flusher
from service.hub.hub import Hub, Start
from service.hub.outbox import Outbox
from service.hub.publication import Publication
from service.hub.window import WindowBudget
from service.metrics import Metrics
from service.streams.position import below, to_offset

#: The epoch of channels that `FakeFeed` begins.
EPOCH = "epoch-1"


def publication(number: int, data: bytes = b"{}") -> Publication:
    """The publication whose id is `(number, 0)`."""
    return Publication((number, 0), to_offset((number, 0)), data)


class LineFormat:
    """A wire format that is easy to read: `channel number data`, a line each."""

    def publications(self, channel: str, publications: Any) -> bytes:
        return b"".join(
            b"%b %d %b\n" % (channel.encode(), p.id[0], p.json[8 : p.json.index(b',"offset')])
            for p in publications
        )


LINES = LineFormat()


class FakeOwner:
    """Counts why its outbox gave up."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.on_finish: Callable[[bytes], None] = lambda data: None
        self.on_overflow: Callable[[], None] = lambda: None
        self.on_gap: Callable[[str], None] = lambda channel: None

    def unsubscribed(self, channel: str) -> None:
        self.on_gap(channel)

    def overflow(self, reason: str) -> None:
        self.reasons.append(reason)
        self.on_overflow()

    def finish(self, data: bytes) -> None:
        self.on_finish(bytes(data))


class FakeSocket:
    """Takes what it is given; once `room` bytes are taken it is full, and says so as a transport does."""

    def __init__(self, flusher: Flusher, *, limit: int = 1_000_000, room: int | None = None) -> None:
        self.writes: list[bytes] = []
        self.room = room
        self.owner = FakeOwner()
        self.owner.on_finish = self.writes.append
        self.outbox = Outbox(self.owner, self.write, LINES, flusher, limit)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.room is not None:
            self.room -= len(data)
            if self.room <= 0:
                self.outbox.block()

    def open(self, room: int | None = None) -> None:
        """The client reads again, `room` bytes or everything."""
        self.room = room
        self.outbox.unblock()

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def numbers(self, channel: str) -> list[int]:
        """The publications of a channel, in the order in which they were written."""
        found = [line.split(b" ") for line in self.written.splitlines()]
        return [int(words[1]) for words in found if words[0] == channel.encode()]


def actually_held(outbox: Outbox) -> int:
    """What `held` must be: the bytes that wait behind a full socket."""
    if not outbox.blocked:
        return 0
    return sum(map(len, outbox.pending)) + sum(map(len, (outbox.conflated or {}).values()))


class FakeFeed:
    """A `Feed` that begins each channel at `start`, at once or when `go` is set."""

    def __init__(self) -> None:
        self.hub: Hub
        self.start = start_at(10)
        self.go = asyncio.Event()
        self.go.set()
        self.failure: Exception | None = None
        self.followed: list[str] = []
        self.unfollowed: list[str] = []
        self.synced: list[str] = []
        self.on_sync: Callable[[], None] = lambda: None

    async def follow(self, channel: str, namespace: Namespace) -> None:
        self.followed.append(channel)
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        self.hub.begin(channel, self.start)

    def unfollow(self, channel: str) -> None:
        self.unfollowed.append(channel)

    async def sync(self, channel: str) -> None:
        self.synced.append(channel)
        await asyncio.sleep(0)
        self.on_sync()


def start_at(number: int, newest: Publication | None = None, epoch: str = EPOCH) -> Start:
    """A channel's start at the id `(number, 0)`."""
    cursor = (number, 0)
    return Start(cursor, epoch, newest, below(newest.id) if newest else cursor)


class HubWorld:
    """A hub with its flusher and a fake feed; made inside a running loop."""

    def __init__(self, *, linger: float = 5.0, held_limit: int = 10**9, window_bytes: int = 10**9) -> None:
        self.metrics = Metrics()
        self.flusher = Flusher(held_limit)
        self.budget = WindowBudget(window_bytes)
        self.hub = Hub(
            self.flusher,
            self.budget,
            linger,
            lambda: 0.0,
            self.metrics,
        )
        self.gaps: list[tuple[Outbox, str]] = []
        self.feed = FakeFeed()
        self.feed.hub = self.hub
        self.hub.attach(self.feed)

    def socket(self, *, limit: int = 1_000_000, room: int | None = None) -> FakeSocket:
        sock = FakeSocket(self.flusher, limit=limit, room=room)
        sock.owner.on_gap = lambda channel: self.gaps.append((sock.outbox, channel))
        return sock

    async def subscribed(self, name: str, namespace: Namespace, *sockets: FakeSocket) -> None:
        """Subscribe these sockets."""
        for sock in sockets:
            channel = await self.hub.hold(name, namespace)
            self.hub.add(channel, sock.outbox)
            self.hub.release(channel)

    def deliver(self, name: str, *numbers: int, data: bytes = b"{}", flush: bool = True) -> None:
        """What the tail does."""
        self.hub.deliver(name, [publication(n, data) for n in numbers], (numbers[-1], 0))
        if flush:
            self.hub.flush()
