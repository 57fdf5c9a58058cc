"""Who is banned from which room: known to a node for the rooms that its clients ask for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Protocol

from service.chat.room import FOREVER
from service.errors import permission_denied
from service.tasks import Tasks

#: Rooms that a node remembers; the one not asked for longest makes room.
MAX_ROOMS = 10_000


class Source(Protocol):
    """Where bans are written down."""

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
        # Raised by whatever changes bans: what was read meanwhile is outdated.
        self._changes = 0

    def known(self, channel: str) -> bool:
        """Whether `check` can tell without `read`."""
        return channel in self._rooms

    def left(self, channel: str, user: str) -> float:
        """Seconds that a user is still banned, as far as is known."""
        return max(0.0, self._rooms.get(channel, {}).get(user, 0) / 1000 - time.time())

    def check(self, channel: str, user: str) -> None:
        """Raise ReplyError 103 where a user is banned, as far as is known."""
        left = self.left(channel, user)
        if left:
            ends = self._rooms[channel][user] != FOREVER
            raise permission_denied("banned from this room", left if ends else None)

    async def read(self, channel: str) -> None:
        """Know this room's bans.

        Raises:
            Unavailable, CommandFailed: as `Source.bans`.
        """
        reading = self._reading.get(channel)
        if reading is None:
            reading = self._reading[channel] = self._tasks.start(self._read(channel))
            reading.add_done_callback(lambda _: self._reading.pop(channel, None))
        # Shielded: one who goes away must not take the answer from the others.
        await asyncio.shield(reading)

    async def _read(self, channel: str) -> None:
        before = -1
        while before != self._changes:
            before = self._changes
            found = await self._source.bans(channel)
        self._rooms[channel] = found
        self._rooms.move_to_end(channel)
        if len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)

    def changed(self, channel: str, user: str, until_ms: int) -> None:
        """Somebody was banned, or (0) is no longer."""
        self._changes += 1
        room = self._rooms.get(channel)
        if room is not None:
            room[user] = until_ms

    def forget(self) -> None:
        """What is known may be outdated."""
        self._changes += 1
        self._rooms.clear()
