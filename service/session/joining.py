"""Joining a channel at its cursor: what a new subscription is given, without a gap or a duplicate.

`attempt` decides from what is in memory. It never waits, so that the caller can add the
subscription in the same event-loop step; where memory is not enough it says what to read first.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from service.errors import Unavailable
from service.hub.delivery import DELIVERIES
from service.hub.hub import Channel, Hub
from service.hub.publication import Publication
from service.streams.history import History, Since
from service.streams.position import ZERO, StreamId, from_offset, to_offset

#: Attempts, each after a read of Redis. A second one is needed only where more entries came in the
#: meantime than the window holds.
MAX_ATTEMPTS = 5


class Position(NamedTuple):
    """Where a client says it was."""

    offset: int
    epoch: str

    @property
    def id(self) -> StreamId:
        """The position in the stream."""
        return from_offset(self.offset)


class Wish(NamedTuple):
    """A channel to join, from the client's position if it tells one."""

    channel: Channel
    position: Position | None


class Joined(NamedTuple):
    """What the client is told. `recovered` is None where it did not ask for a recovery."""

    epoch: str
    offset: int
    publications: list[bytes]
    recovered: bool | None


class Need(enum.Enum):
    """What to read before the next attempt."""

    #: The tail shall catch up with the client: it was on a node that is ahead.
    SYNC = "sync"
    #: What came after the client's position, from Redis.
    SINCE = "since"
    #: The newest entry, from Redis.
    NEWEST = "newest"


class Bounds(NamedTuple):
    """How much one recovery may bring: entries, and bytes of JSON."""

    entries: int
    bytes: int


class Found(NamedTuple):
    """What was read so far."""

    synced: bool = False
    since: Since | None = None
    newest_read: bool = False
    newest: Publication | None = None


def attempt(channel: Channel, position: Position | None, bounds: Bounds, found: Found) -> Joined | Need:
    """What a subscription that begins at the channel's cursor, now, is given."""
    if position is None or not DELIVERIES[channel.namespace.mode].keeps_all:
        return _current(channel, position, found)
    if position.epoch != channel.epoch:
        return _unrecovered(channel)
    since, cursor = position.id, channel.cursor
    if since > cursor:
        return _unrecovered(channel) if found.synced else Need.SYNC
    window = channel.window
    publications = window.after(since) if since == cursor or window.knows(since) else None
    if publications is None:
        if found.since is None:
            return Need.SINCE
        if not found.since.complete:
            return _unrecovered(channel)
        # Redis may be ahead of the cursor (the tail will bring that) or, by now, behind it.
        publications = [p for p in found.since.publications if p.id <= cursor]
        if found.since.top < cursor:
            rest = window.after(found.since.top)
            if rest is None:
                return Need.SINCE
            publications += rest
    encoded = [publication.json for publication in publications]
    if len(encoded) > bounds.entries or sum(map(len, encoded)) > bounds.bytes:
        return _unrecovered(channel)
    return Joined(channel.epoch, position.offset, encoded, recovered=True)


def _current(channel: Channel, position: Position | None, found: Found) -> Joined | Need:
    """No recovery, or a recovery in `latest` mode: at most the newest entry."""
    cursor = channel.cursor
    ahead = position is not None and position.epoch == channel.epoch and position.id > cursor
    if ahead and not found.synced:
        return Need.SYNC  # else what the client has seen would come again, older after newer
    publications: list[bytes] = []
    if position is not None or channel.namespace.snapshot:
        newest = channel.window.newest
        if newest is None and cursor != ZERO:
            if not found.newest_read:
                return Need.NEWEST
            newest = found.newest
            if newest is not None and newest.id > cursor:
                # The tail has yet to bring it; with the window off it may be ahead again and again.
                if not found.synced:
                    return Need.SYNC
                newest = None
        if newest is not None and position is None:
            publications = [newest.snapshot()]
        elif newest is not None and position is not None:
            # Still ahead after reading: the past was replaced, and the newest is news.
            is_news = position.epoch != channel.epoch or newest.id > position.id or ahead
            publications = [newest.json] if is_news else []
    recovered = None if position is None else True
    return Joined(channel.epoch, to_offset(cursor), publications, recovered)


def _unrecovered(channel: Channel) -> Joined:
    return Joined(channel.epoch, to_offset(channel.cursor), [], recovered=False)


async def join(hub: Hub, history: History, wishes: Sequence[Wish], bounds: Bounds) -> list[Joined]:
    """Attempt, read, attempt again, until all channels can be joined in the same event-loop step.

    The caller adds the subscriptions without waiting in between.

    Raises:
        Unavailable: Redis did not answer, or entries come faster than they can be read.
        CommandFailed, ReplyError: as `History`.
    """
    found = [Found() for _ in wishes]
    for _ in range(MAX_ATTEMPTS):
        outcomes = [
            attempt(wish.channel, wish.position, bounds, so_far)
            for wish, so_far in zip(wishes, found, strict=True)
        ]
        joined = [outcome for outcome in outcomes if isinstance(outcome, Joined)]
        if len(joined) == len(wishes):
            return joined
        for at, (wish, outcome) in enumerate(zip(wishes, outcomes, strict=True)):
            if isinstance(outcome, Need):
                found[at] = await _read(hub, history, wish, bounds, found[at], outcome)
    raise Unavailable("entries come faster than they can be read")


async def _read(hub: Hub, history: History, wish: Wish, bounds: Bounds, found: Found, need: Need) -> Found:
    channel, position = wish
    match need:
        case Need.SYNC:
            await hub.sync(channel)
            return found._replace(synced=True, newest_read=False)
        case Need.SINCE:
            assert position is not None
            before = channel.cursor
            since = await history.since(channel.name, channel.namespace, position.id, bounds.entries)
            # The next who comes from there finds it in memory. Not if anything came meanwhile: it may
            # have taken back what was read.
            if since.complete and since.top >= before == channel.cursor and position.epoch == channel.epoch:
                channel.window.reach_back(position.id, since.publications)
            return found._replace(since=since)
        case Need.NEWEST:
            newest = await history.newest(channel.name, channel.namespace)
            return found._replace(newest_read=True, newest=newest)
