"""Keeps Redis in step with what this node knows of its clients' channels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from itertools import chain, islice

from service.errors import CommandFailed
from service.metrics import Metrics
from service.sections import PresenceSettings
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.link import Argument, Reply
from service.streams.lua import Script
from service.streams.members import Members, Step
from service.streams.nodes import Nodes
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Clients that come or go in one call of the script: some 4 ms of Redis.
SLICE = 500

#: Calls of the script in one pipeline, which holds up the commands behind it.
CALLS = 100

#: Seconds that keys outlive their last refresh, for when all nodes die: far beyond `dead_seconds`.
KEPT_SECONDS = 3600

#: Seconds after which the keys of an unchanged channel are refreshed.
REFRESH_SECONDS = 1200

_WRITE = Script.of("service.streams.lua", "presence_write.lua")


class Attendance:
    """The members of all channels on this node, and the writing of them.

    Args:
        node: this node's name.
    """

    def __init__(
        self, settings: PresenceSettings, commands: Commands, keys: Keys, node: str, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._keys = keys
        self._metrics = metrics
        self._nodes = Nodes(settings, commands, keys, node)
        #: Channels with members here, or with something to write.
        self._channels: dict[str, Members] = {}
        #: Channels to be written in the next batch, and those to be tried again with the next heartbeat.
        self._changed: dict[str, None] = {}
        self._failed: set[str] = set()
        #: Channel to when its summary is due.
        self._due: dict[str, float] = {}
        #: Held by whoever writes or beats: a step is under way under the name that the node has.
        self._lock = asyncio.Lock()
        self._log_limit = OncePer(60.0)

    @property
    def has_work(self) -> bool:
        """Whether a flush has something to write, now or soon."""
        return bool(self._changed or self._due)

    def count_keys(self, channel: str) -> tuple[str, str]:
        """The hashes of node to clients, and of user to clients."""
        return self._keys.beside("presence", channel), self._keys.beside("presence-users", channel)

    def members_key(self, channel: str, node: str) -> str:
        """The hash of a node's clients to their values."""
        return self._keys.beside(f"presence-of-{node}", channel)

    def has(self, channel: str, client: str) -> bool:
        """Whether a client is in a channel, on this node."""
        members = self._channels.get(channel)
        return members is not None and client in members.values

    def join(self, channel: str, client: str, value: bytes) -> bool:
        """A client comes; whether it was not here before."""
        self._changed[channel] = None
        return self._members(channel).join(client, value)

    def leave(self, channel: str, client: str) -> bool:
        """A client goes; whether it was here."""
        members = self._channels.get(channel)
        if members is None or not members.leave(client):
            return False
        self._changed[channel] = None
        return True

    def _members(self, channel: str) -> Members:
        members = self._channels.get(channel)
        if members is None:
            members = self._channels[channel] = Members(channel)
        return members

    # Other nodes

    async def beat(self) -> None:
        """Say that this node lives; who has died, what has failed and what is stale is due then.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        async with self._lock:
            await self._beat()
        stale = time.monotonic() - REFRESH_SECONDS
        self._changed |= dict.fromkeys(self._failed)
        self._changed |= {name: None for name, members in self._channels.items() if members.written < stale}
        self._failed.clear()

    async def _beat(self) -> None:
        former = self._nodes.name
        dead = await self._nodes.beat()
        if dead:
            for members in self._channels.values():
                members.died(dead)
                if former in dead:
                    members.begin_anew()
            self._changed |= dict.fromkeys(self._channels)

    async def meet(self, channel: str, nodes: Iterable[str]) -> bool:
        """A channel has members of these nodes; whether that makes work for `settle`.

        It does where some of them are dead, and where this one is not among them and should be.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        members = self._channels.get(channel)
        if members is not None and members.values and self._nodes.name not in nodes:
            if not members.has_work:
                members.forgotten()
            return True
        if not self._nodes.meet(nodes):
            return False
        async with self._lock:
            await self._judge({channel: nodes})
        return channel in self._channels and self._channels[channel].has_work

    async def _judge(self, seen: Mapping[str, Iterable[str]]) -> None:
        """Strangers were seen in channels: what those of them that are dead have left is to be removed."""
        await self._beat()
        for channel, names in seen.items():
            if dead := set(names) - self._nodes.known:
                self._members(channel).died(dead)
                self._changed[channel] = None

    async def retire(self, seconds: float) -> None:
        """This node counts as dead in so many seconds.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        async with self._lock:
            await self._nodes.retire(seconds)

    # Writing

    async def flush(self) -> None:
        """Write all that is due, a pipeline at a time, so that readers of a channel get in between.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`; the latter only of heartbeats.
        """
        now = time.monotonic()
        for channel in [channel for channel, due in self._due.items() if due <= now]:
            del self._due[channel]
            self._changed[channel] = None
        while self._changed:
            async with self._lock:
                if self._changed:  # as before, while others held the lock
                    await self._write(list(islice(self._changed, CALLS)))

    async def settle(self, channel: str) -> None:
        """Return when Redis knows all that this node knows of a channel.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        members = self._channels.get(channel)
        if not self._lock.locked() and (members is None or not members.has_work):
            return  # and nothing that is under way can fail
        async with self._lock:
            while (members := self._channels.get(channel)) is not None and members.has_work:
                failures = await self._write([channel])
                if channel in failures:
                    raise failures[channel]

    async def _write(self, channels: Iterable[str]) -> dict[str, CommandFailed]:
        """One pipeline: a step of each channel, until they are many clients. Returns what was refused."""
        if not self._nodes.registered:
            await self._beat()
        steps: list[tuple[Members, Step]] = []
        clients = 0
        for channel in channels:
            if clients >= SLICE:
                break
            self._changed.pop(channel, None)
            members = self._members(channel)
            step = members.take(self._nodes.name, SLICE)
            steps.append((members, step))
            clients += len(step)
        try:
            calls = [self._call(members.channel, step) for members, step in steps]
            replies = await self._commands.scripts(_WRITE, calls)
        except BaseException:
            for members, step in steps:
                members.undo(step)
                self._failed.add(members.channel)
            raise
        self._metrics.presence_writes.inc(len(steps))
        failures: dict[str, CommandFailed] = {}
        seen: dict[str, set[str]] = {}
        for (members, step), reply in zip(steps, replies, strict=True):
            if isinstance(reply, CommandFailed):
                members.undo(step)
                self._failed.add(members.channel)
                failures[members.channel] = reply
            else:
                seen[members.channel] = self._written(members, step, reply)
        if failures and self._log_limit.allows("refused"):
            logger.warning("presence: refused, to be tried again: %s", next(iter(failures.values())))
        if self._nodes.meet(chain.from_iterable(seen.values())):
            await self._judge(seen)
        return failures

    def _written(self, members: Members, step: Step, reply: Reply) -> set[str]:
        """A step was written; returns the nodes that have members in the channel, where Redis tells."""
        size, wait, nodes = reply
        now = time.monotonic()
        members.done(step, size, now)
        if wait:
            self._due[members.channel] = now + wait / 1000
        else:
            self._due.pop(members.channel, None)
        if members.has_work:
            self._changed[members.channel] = None
        elif not members.values:
            del self._channels[members.channel]
        return {node.decode() for node in nodes}

    def _call(self, channel: str, step: Step) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of the script; see there."""
        settings = self._settings
        keys = [
            *self.count_keys(channel),
            self.members_key(channel, step.node),
            self._keys.beside("presence-summary", channel),
            self._keys.live(channel),
        ]
        return keys, [
            step.node,
            KEPT_SECONDS,
            settings.summary_members,
            int(settings.summary_seconds * 1000),
            step.drop,
            len(step.come),
            *(operand for pair in step.come for operand in pair),
            *step.go,
        ]
