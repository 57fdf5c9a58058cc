"""Channels and their subscribers: a batch in, writes out. No Redis, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from service import channels
from service.channels import Namespace
from service.errors import StreamgateError
from service.hub.delivery import DELIVERIES, Broadcast
from service.hub.flusher import Flusher
from service.hub.outbox import PIECE, Outbox
from service.hub.publication import Publication, StreamId, WireFormat
from service.hub.window import Window, WindowBudget
from service.metrics import Metrics
from service.tasks import Tasks


class Start(NamedTuple):
    """Where a channel stands when following begins, or begins anew."""

    #: The stream's last generated id.
    cursor: StreamId
    #: Names the life of the stream.
    epoch: str
    #: The stream's last entry, if it can be delivered.
    newest: Publication | None
    #: Between this id and the cursor there is nothing but `newest`.
    reach: StreamId


class Feed(Protocol):
    """Where publications come from."""

    async def follow(self, channel: str, namespace: Namespace) -> None:
        """Begin; `Hub.begin` has been called when this returns."""

    def unfollow(self, channel: str) -> None:
        """End; nothing is delivered any more."""

    async def sync(self, channel: str) -> None:
        """Return when all that the stream holds now is delivered."""


class Listener(Protocol):
    """Part of the node that has an interest in a channel of its own."""

    def heard(self, publications: list[Publication]) -> None:
        """The next publications of the channel."""

    def missed(self) -> None:
        """Publications may be missing: whatever follows from them has to be read anew."""


class Channel:
    """A followed channel: its position, its window, and its subscribers by wire format."""

    __slots__ = (
        "cursor",
        "epoch",
        "internal",
        "label",
        "linger",
        "listener",
        "name",
        "namespace",
        "shown",
        "started",
        "subscribers",
        "users",
        "window",
    )

    def __init__(self, name: str, namespace: Namespace, window: Window, shown: str | None = None) -> None:
        self.name = name
        #: What clients know it by.
        self.shown = shown or name
        self.listener: Listener | None = None
        #: The node's own: not a channel of clients.
        self.internal = name.startswith(channels.RESERVED_NAMESPACE + ":")
        self.namespace = namespace
        self.label = channels.label(name)
        self.window = window
        #: The id of the last entry fanned out.
        self.cursor: StreamId = window.start
        self.epoch = ""
        self.subscribers: dict[WireFormat, dict[Outbox, None]] = {}
        #: Done when the channel is followed; fails with what kept it from being so.
        self.started: asyncio.Task[None] | None = None
        #: Runs while nobody uses the channel any more; then it is unfollowed.
        self.linger: asyncio.TimerHandle | None = None
        #: Who holds the channel, or is subscribed.
        self.users = 0

    def outboxes(self) -> Iterator[Outbox]:
        """All who are subscribed."""
        for group in self.subscribers.values():
            yield from group

    def __len__(self) -> int:
        return sum(map(len, self.subscribers.values()))


class Hub:
    """All channels of a node. The `Sink` of the tail.

    Args:
        flusher: writes the touched outboxes.
        windows: the bound over all windows.
        linger: seconds that a channel is followed after its last user left.
        redis_time: seconds since the epoch by Redis' clock.
    """

    def __init__(
        self,
        flusher: Flusher,
        windows: WindowBudget,
        linger: float,
        redis_time: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._flusher = flusher
        self._windows = windows
        self._linger = linger
        self._redis_time = redis_time
        self._metrics = metrics
        self._channels: dict[str, Channel] = {}
        self._feed: Feed | None = None
        self._tasks = Tasks()
        # From `deliver` to the `flush` that follows.
        self._batches: list[tuple[Channel, list[Publication]]] = []

    def attach(self, feed: Feed) -> None:
        """Say where publications come from; before the first `hold`."""
        self._feed = feed

    def get(self, name: str) -> Channel | None:
        """The channel, if it is followed and has begun."""
        channel = self._channels.get(name)
        return channel if channel is not None and channel.epoch else None

    def subscribed(self) -> list[Channel]:
        """The channels of clients that somebody is subscribed to."""
        return [each for each in self._channels.values() if not each.internal and len(each)]

    async def aclose(self) -> None:
        """End what is under way."""
        await self._tasks.aclose()

    # Following

    async def hold(self, name: str, namespace: Namespace, shown: str | None = None) -> Channel:
        """Have a channel followed and keep it so until `release`.

        All who come first at the same time wait for the same beginning.

        Args:
            shown: the channel that clients see its publications in, if that is another one.

        Raises:
            StreamgateError: as `Feed.follow`; then there is nothing to release.
        """
        channel = self._channels.get(name)
        if channel is None:
            window = Window(self._windows, namespace.window_size, (0, 0))
            channel = self._channels[name] = Channel(name, namespace, window, shown)
            channel.started = self._tasks.start(self._start(channel))
            if not channel.internal:
                self._metrics.channels.inc()
        self._use(channel)
        if channel.started is not None:
            try:
                # Shielded: one who goes away must not take the channel from the others.
                await asyncio.shield(channel.started)
            except BaseException:
                self.release(channel)
                raise
        return channel

    async def _start(self, channel: Channel) -> None:
        assert self._feed is not None
        try:
            await self._feed.follow(channel.name, channel.namespace)
            channel.started = None
        except StreamgateError:
            self._forget(channel)
            raise

    def release(self, channel: Channel) -> None:
        """The reverse of `hold`."""
        channel.users -= 1
        if not channel.users and self._channels.get(channel.name) is channel and channel.linger is None:
            channel.linger = asyncio.get_running_loop().call_later(self._linger, self._unfollow, channel)

    def _use(self, channel: Channel) -> None:
        channel.users += 1
        if channel.linger is not None:
            channel.linger.cancel()
            channel.linger = None

    def _unfollow(self, channel: Channel) -> None:
        assert self._feed is not None
        self._feed.unfollow(channel.name)
        self._forget(channel)

    def _forget(self, channel: Channel) -> None:
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            if not channel.internal:
                self._metrics.channels.dec()
        channel.window.close()

    async def sync(self, channel: Channel) -> None:
        """Return when all that the stream holds now has been fanned out.

        Raises:
            Unavailable: as `Feed.sync`.
        """
        assert self._feed is not None
        await self._feed.sync(channel.name)

    # Subscribing

    def add(self, channel: Channel, outbox: Outbox) -> None:
        """Deliver from the channel's cursor on. The caller must hold the channel."""
        self._use(channel)
        channel.subscribers.setdefault(outbox.format, {})[outbox] = None
        if not channel.internal:
            self._metrics.subscriptions.inc()

    def remove(self, channel: Channel, outbox: Outbox) -> None:
        """Deliver no more."""
        group = channel.subscribers.get(outbox.format)
        if group is None or outbox not in group:
            return
        self._flusher.settle()  # else a publication could follow the answer to the unsubscribe
        del group[outbox]
        if not group:
            del channel.subscribers[outbox.format]
        outbox.discard(channel.name)
        if not channel.internal:
            self._metrics.subscriptions.dec()
        self.release(channel)

    # The tail's sink

    async def ready(self) -> None:
        """Return when what was fanned out so far has, nearly, been written."""
        await self._flusher.drained()

    def begin(self, name: str, start: Start) -> None:
        """The channel is followed from `start` on."""
        channel = self._channels.get(name)
        if channel is not None:
            self._restart(channel, start)

    def gap(self, name: str, start: Start) -> None:
        """Continuity broke: whoever relies on it is told; the others get the newest."""
        channel = self._channels.get(name)
        if channel is None:
            return
        self._restart(channel, start)
        if channel.listener is not None:
            channel.listener.missed()
        if DELIVERIES[channel.namespace.mode].keeps_all:
            for outbox in list(channel.outboxes()):
                self.remove(channel, outbox)
                outbox.owner.unsubscribed(name)
        elif start.newest is not None:
            self._fan_out(channel, [start.newest])

    def _restart(self, channel: Channel, start: Start) -> None:
        channel.cursor = start.cursor
        channel.epoch = start.epoch
        channel.window.clear(start.reach)
        if start.newest is not None:
            channel.window.extend([start.newest])

    def deliver(self, name: str, publications: list[Publication], cursor: StreamId) -> None:
        """The next publications of a channel."""
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.cursor = cursor
        if publications:
            channel.window.extend(publications)
            if channel.namespace.chat:
                _take_back(channel.window, publications)
            if channel.listener is not None:
                channel.listener.heard(publications)
            if channel.subscribers:
                self._batches += [(channel, part) for part in self._in_parts(channel, publications)]

    def flush(self) -> None:
        """Write what has been delivered, as far as no interval holds it back.

        Must follow `deliver` in the same event-loop step: who subscribes later begins after it.
        """
        batches, self._batches = self._batches, []
        if len(batches) == 1 and self._flusher.idle:
            channel, publications = batches[0]
            if len(channel.subscribers) == 1 and not channel.namespace.coalesce_ms:
                self._broadcast(channel, publications)
                return
        for channel, publications in batches:
            self._fan_out(channel, publications)
        self._flusher.run()

    def _in_parts(self, channel: Channel, publications: list[Publication]) -> list[list[Publication]]:
        """Split what would be too much for one write; of a `latest` channel only the newest is left."""
        if len(publications) == 1 or sum(len(p.json) for p in publications) <= PIECE:
            return [publications]
        if not DELIVERIES[channel.namespace.mode].keeps_all:
            self._missed(channel)((len(publications) - 1) * len(channel))
            return [publications[-1:]]
        parts, at, size = [], 0, 0
        for end, publication in enumerate(publications):
            if size + len(publication.json) > PIECE and end > at:
                parts.append(publications[at:end])
                at, size = end, 0
            size += len(publication.json)
        return [*parts, publications[at:]]

    def _fan_out(self, channel: Channel, publications: list[Publication]) -> None:
        """Append a batch to all subscribers' outboxes: the loop that everything else serves."""
        if not channel.subscribers:
            return
        self._flusher.settle()
        flusher, interval = self._flusher, channel.namespace.coalesce_ms
        later = flusher.later(interval) if interval else None
        queue = later.outboxes.append if later else flusher.now.append
        blocked = DELIVERIES[channel.namespace.mode].blocked
        count = missed = size = 0
        for format, group in list(channel.subscribers.items()):
            chunk = format.publications(channel.shown, publications)
            count += len(group)
            size += len(chunk) * len(group)
            # A copy: an outbox that overflows closes its session, which leaves the channel.
            for outbox in list(group):
                if outbox.blocked:
                    missed += blocked(outbox, channel.name, publications, chunk)
                    continue
                outbox.pending.append(chunk)
                if interval < outbox.due:
                    outbox.due = interval
                    queue(outbox)
        if later:
            later.bytes += size
        else:
            flusher.backlog += size
        self._count(channel, publications, count, size)
        if missed:
            self._missed(channel)(missed)

    def _broadcast(self, channel: Channel, publications: list[Publication]) -> None:
        """The same for a batch that nothing else is pending with: straight to the sockets."""
        ((format, group),) = channel.subscribers.items()
        chunk = format.publications(channel.shown, publications)
        size = len(chunk) * len(group)
        self._flusher.backlog += size
        self._count(channel, publications, len(group), size)
        mode, missed = channel.namespace.mode, self._missed(channel)
        self._flusher.broadcast(Broadcast(channel.name, mode, list(group), publications, chunk, missed))

    def _missed(self, channel: Channel) -> Callable[[float], None]:
        """Counts the publications that a full socket went without."""
        sample = channel.namespace.mode == "sample"
        return self._metrics.dropped.labels("sample").inc if sample else self._metrics.conflated.inc

    def _count(self, channel: Channel, publications: list[Publication], count: int, size: int) -> None:
        metrics = self._metrics
        metrics.deliveries[channel.label].inc(count * len(publications))
        metrics.delivered_bytes.inc(size)
        lateness = self._redis_time() - publications[-1].id[0] / 1000
        metrics.delivery_latency.observe(max(0.0, lateness))
        metrics.fanout_size.observe(count)
        metrics.window_bytes.set(self._windows.bytes)


def _take_back(window: Window, publications: list[Publication]) -> None:
    for publication in publications:
        if publication.takes_back:
            window.take_back(publication.takes_back)
