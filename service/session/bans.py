"""Who is banned from which room: known to a node for the rooms that its clients ask for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

from service.chat.room import barred
from service.tasks import Tasks

#: Rooms that a node remembers; the one read first makes room.
MAX_ROOMS = 10_000


class Source(Protocol):
    """Where bans are written down."""

    @property
    def now(self) -> int:
        """The clock by which they end, in ms since the epoch: Redis', as that of a node may be off."""

    async def bans(self, channel: str) -> dict[str, int]:
        """Until when each user is banned, in ms since the epoch."""


class Bans:
    """What was read of bans, kept up to date by commands to all nodes."""

    def __init__(self, source: Source, tasks: Tasks) -> None:
        self._source = source
        self._tasks = tasks
        # One read for all who ask at the same time.
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._rooms: OrderedDict[str, dict[str, int]] = OrderedDict()
        # Those of which something has changed while they were read.
        self._outdated: set[str] = set()

    def known(self, channel: str) -> bool:
        """Whether `check` can tell without `read`."""
        return channel in self._rooms

    def left(self, channel: str, user: str) -> float:
        """Seconds that a user is still banned, as far as is known."""
        return self.lasts(self._rooms.get(channel, {}).get(user, 0))

    def lasts(self, until_ms: int) -> float:
        """Seconds from now on that a ban with this end lasts; 0: it has ended."""
        return max(0, until_ms - self._source.now) / 1000

    def check(self, channel: str, user: str) -> None:
        """Raise ReplyError 103 where a user is banned, as far as is known."""
        if self.left(channel, user):
            raise barred("banned", self._rooms[channel][user], self._source.now)

    async def read(self, channel: str) -> None:
        """Know this room's bans; no wait where they are known, and none from here to `check`.

        Raises:
            Unavailable, CommandFailed: as `Source.bans`.
        """
        while not self.known(channel):
            reading = self._reading.get(channel)
            if reading is None:
                reading = self._reading[channel] = self._tasks.start(self._read(channel))
                reading.add_done_callback(lambda _: self._was_read(channel))
            # Shielded: one who goes away must not take the answer from the others.
            await asyncio.shield(reading)

    async def _read(self, channel: str) -> None:
        found = await self._source.bans(channel)
        while channel in self._outdated:
            self._outdated.discard(channel)
            found = await self._source.bans(channel)
        self._rooms[channel] = found
        if len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)

    def _was_read(self, channel: str) -> None:
        del self._reading[channel]
        self._outdated.discard(channel)

    def changed(self, channel: str, user: str, until_ms: int) -> None:
        """Somebody was banned, or (0) is no longer."""
        if channel in self._reading:
            self._outdated.add(channel)
        room = self._rooms.get(channel)
        if room is not None:
            room[user] = until_ms

    def forget(self) -> None:
        """What is known may be outdated."""
        self._outdated.update(self._reading)
        self._rooms.clear()
