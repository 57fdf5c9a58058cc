"""Presence: who is subscribed to a channel, on any node.

Each node holds the truth about its own clients and writes what changes in batches (attendance.py); Redis
holds the sum. Not clients but nodes are refreshed (nodes.py), so that a client who stays costs nothing.
The members of a dead node are removed by those who have members in the same channel, or read it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import PresenceSettings
from service.streams.attendance import Attendance
from service.streams.backoff import Backoff
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.link import Command
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Clients that `members` returns at most: up to 10 ms of Redis.
MAX_MEMBERS = 10_000


class Presence:
    """The presence of one node.

    Args:
        node: this node's name, without braces.
    """

    def __init__(
        self, settings: PresenceSettings, commands: Commands, keys: Keys, node: str, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._metrics = metrics
        self._attendance = Attendance(settings, commands, keys, node, metrics)
        #: (channel, client) to when its grace ends, in that order.
        self._lost: dict[tuple[str, str], float] = {}
        self._work = asyncio.Event()
        self._log_limit = OncePer(60.0)

    def join(self, channel: str, client: str, user: str, info: bytes, *, events: bool) -> None:
        """A client is in a channel. Remembered at once, written with the next batch.

        Args:
            user: "" for an anonymous client, which counts as a user of its own. Of a client always the same.
            info: the JSON object that presence shows.
            events: tell subscribers of joins and leaves.
        """
        counts_as = f"u{user}" if user else f"c{client}"
        self._lost.pop((channel, client), None)
        if self._attendance.join(channel, client, b"%b\0%d%b" % (info, events, counts_as.encode())):
            self._metrics.presence_members.inc()
        self._work.set()

    def leave(self, channel: str, client: str, *, at_once: bool) -> None:
        """A client is no longer in a channel; nothing happens where it was not.

        Args:
            at_once: it has unsubscribed; else its connection was lost, and it leaves after the grace,
                unless it joins again.
        """
        if at_once:
            self._lost.pop((channel, client), None)
            self._leave(channel, client)
        elif self._attendance.has(channel, client):
            ends = time.monotonic() + self._settings.grace_seconds
            self._lost.setdefault((channel, client), ends)
        self._work.set()

    def _leave(self, channel: str, client: str) -> None:
        if self._attendance.leave(channel, client):
            self._metrics.presence_members.dec()

    # Reading

    async def members(self, channel: str) -> dict[str, bytes]:
        """Client to info, on all nodes; where there are more than `MAX_MEMBERS`, that many of them.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute_all`.
        """
        counts, _ = await self._overview(channel)
        reads: list[Command] = []
        room = MAX_MEMBERS
        for node, count in counts.items():
            key = self._attendance.members_key(channel, node)
            reads.append(("HGETALL", key) if count <= room else ("HSCAN", key, 0, "COUNT", room))
            room -= count
            if room <= 0:
                break
        found: dict[str, bytes] = {}
        for reply in await self._commands.execute_all(reads):
            pairs = reply.items() if isinstance(reply, dict) else zip(*[iter(reply[1])] * 2, strict=True)
            for client, value in pairs:
                if len(found) == MAX_MEMBERS:
                    break
                found[client.decode()] = value[: value.index(b"\0")]
        return found

    async def stats(self, channel: str) -> tuple[int, int]:
        """The number of clients and of users; each anonymous client is a user.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute_all`.
        """
        counts, users = await self._overview(channel)
        return sum(counts.values()), users

    async def _overview(self, channel: str) -> tuple[dict[str, int], int]:
        """Node to clients, and the number of users, with what this node has to say written first."""
        await self._attendance.settle(channel)
        while True:
            nodes_key, users_key = self._attendance.count_keys(channel)
            nodes, users = await self._commands.execute_all([("HGETALL", nodes_key), ("HLEN", users_key)])
            counts = {node.decode(): int(count) for node, count in nodes.items()}
            if not await self._attendance.meet(channel, counts):
                return counts, users
            await self._attendance.settle(channel)

    # Writing

    async def run(self) -> None:
        """Beat and write; never returns. While Redis is away, what changes is kept."""
        await self._commands.wait_connected()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.beat, self._settings.heartbeat_seconds))
            group.create_task(self._repeat(self._write, self._settings.batch_ms / 1000))

    async def aclose(self) -> None:
        """The node goes, after `run` has ended. What is pending is written if Redis answers.

        Clients that are still here leave after the grace: other nodes see to it.
        """
        try:
            await self.flush()
            await self._attendance.retire(self._settings.grace_seconds)
        except (Unavailable, CommandFailed) as exc:
            logger.warning("presence ends without Redis; clients leave as those of a dead node do: %s", exc)

    async def flush(self) -> None:
        """Write all that is due. Channels that Redis refuses are tried again with the next heartbeat.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`; the latter only of heartbeats.
        """
        now = time.monotonic()
        while self._lost:
            (channel, client), ends = next(iter(self._lost.items()))
            if ends > now:
                break
            del self._lost[channel, client]
            self._leave(channel, client)
        await self._attendance.flush()

    async def beat(self) -> None:
        """Say that this node lives, and hear who has died.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._attendance.beat()
        self._work.set()

    async def _write(self) -> None:
        if not (self._lost or self._attendance.has_work):
            self._work.clear()
            await self._work.wait()
        await self.flush()

    async def _repeat(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        backoff = Backoff()
        while True:
            try:
                await work()
            except (Unavailable, CommandFailed) as exc:
                if self._log_limit.allows("failure"):
                    logger.warning("presence: Redis does not answer, or refuses: %s", exc)
                await asyncio.sleep(backoff.next())
                await self._commands.wait_connected()
            else:
                backoff.reset()
                await asyncio.sleep(pause)
