"""Commands to all nodes: a stream that every node follows, as it follows channels.

A command is a JSON object with a member `command`; what there is, session/orders.py tells. What must
hold for nodes that start later stands in Redis beside the stream: the revocations.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

import orjson

from service.channels import CONTROL
from service.errors import CommandFailed, StreamgateError, Unavailable
from service.hub.hub import Hub
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams.backoff import Backoff
from service.streams.commands import Commands
from service.streams.entries import DATA
from service.streams.keys import Keys

logger = logging.getLogger(__name__)

#: Commands the stream keeps, about: what a node may miss while it is cut off.
KEPT_COMMANDS = 10_000

#: Seconds that a revocation is kept. A token that lives longer than this would live again.
KEPT_REVOCATIONS = 90 * 86_400

Command = dict[str, Any]


class Orders(Protocol):
    """Who carries the commands out."""

    def carry_out(self, command: Command) -> str:
        """One command, in the order in which they were sent; returns what it is counted as."""

    def missed(self) -> None:
        """Commands may have been lost, and what this node knows may be outdated."""


class Control:
    """Sends commands to all nodes, and hears those sent. `run` ends when cancelled."""

    def __init__(self, commands: Commands, keys: Keys, hub: Hub, metrics: Metrics) -> None:
        self._commands = commands
        self._keys = keys
        self._hub = hub
        self._metrics = metrics
        self._orders: Orders | None = None
        # User to ms. Read when the node starts, and again when a command may have been missed.
        self._revoked: dict[str, int] = {}
        self._outdated = asyncio.Event()
        #: Whether commands are heard and the revocations known: before, no token can be called good.
        self.ready = False

    def attach(self, orders: Orders) -> None:
        """Say who carries commands out; before `run`."""
        self._orders = orders

    def revoked(self, user: str, issued_at: float | None) -> bool:
        """Whether a token of this user is void. One that does not tell when it was issued is, once any is.

        Args:
            issued_at: Unix seconds.
        """
        before = self._revoked.get(user)
        return before is not None and (issued_at is None or issued_at * 1000 <= before)

    async def send(self, command: Command) -> None:
        """Have all nodes carry out a command.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._commands.execute(*self._entry(command))

    async def revoke(self, user: str, before_ms: int | None = None) -> int:
        """Make void what was issued to a user up to an instant, now if not told; its sessions end.

        Returns:
            the instant, in ms by Redis' clock.

        Raises:
            Unavailable, CommandFailed: as `Commands.transaction`.
        """
        now = self._now()
        before = now if before_ms is None else before_ms
        key = self._keys.revocations()
        await self._commands.transaction(
            [
                ("ZADD", key, "GT", before, user),
                ("ZREMRANGEBYSCORE", key, "-inf", now - KEPT_REVOCATIONS * 1000),
                self._entry({"command": "revoke", "user": user, "before_ms": before}),
            ]
        )
        return before

    def _entry(self, command: Command) -> tuple[bytes | str | int, ...]:
        return ("XADD", self._keys.control(), "MAXLEN", "~", KEPT_COMMANDS, "*", DATA, orjson.dumps(command))

    async def run(self) -> None:
        """Follow the stream, and know the revocations; never returns."""
        backoff = Backoff()
        while True:
            await self._commands.wait_connected()
            try:
                channel = await self._hub.hold(self._keys.control(), CONTROL)
                break
            except StreamgateError:
                await asyncio.sleep(backoff.next())
        channel.listener = self
        while True:
            # Heard from here on; what was said before is read now.
            self._outdated.clear()
            try:
                await self._read_revocations()
            except (Unavailable, CommandFailed):
                await asyncio.sleep(backoff.next())
                continue
            self.ready = True
            backoff.reset()
            await self._outdated.wait()

    async def _read_revocations(self) -> None:
        reply = await self._commands.execute("ZRANGE", self._keys.revocations(), 0, -1, "WITHSCORES")
        found = {user.decode(errors="replace"): int(before) for user, before in reply}
        for user, before in found.items():
            self._revoke(user, before)
        if gone := {user: before for user, before in self._revoked.items() if user not in found}:
            await self._keep(gone)

    async def _keep(self, gone: dict[str, int]) -> None:
        """Write down anew what Redis does not know: it was emptied, and nodes that start later must know."""
        oldest = self._now() - KEPT_REVOCATIONS * 1000
        for user, before in gone.items():
            if before < oldest:
                del self._revoked[user]
        if kept := [word for user, before in gone.items() if before >= oldest for word in (before, user)]:
            await self._commands.execute("ZADD", self._keys.revocations(), "GT", *kept)

    def _now(self) -> int:
        return int((time.time() + self._commands.clock_offset) * 1000)

    def _revoke(self, user: str, before: int) -> None:
        if before > self._revoked.get(user, -1):
            self._revoked[user] = before
            self._order({"command": "revoke", "user": user, "before_ms": before})

    # The hub's Listener

    def heard(self, publications: list[Publication]) -> None:
        """Carry out what was sent."""
        for publication in publications:
            command = orjson.loads(publication.json)["data"]
            if not isinstance(command, dict):
                logger.warning("a command that is no object: passed over")
                continue
            match command:
                case {"command": "revoke", "user": str(user), "before_ms": int(before)}:
                    self._revoke(user, before)
                case _:
                    self._order(command)

    def missed(self) -> None:
        """The stream was trimmed or flushed past this node."""
        self._outdated.set()
        if self._orders is not None:
            self._orders.missed()

    def _order(self, command: Command) -> None:
        assert self._orders is not None
        try:
            label = self._orders.carry_out(command)
        except Exception:  # a command that goes wrong must not keep the next from being heard
            logger.exception("a command could not be carried out")
            label = "failed"
        self._metrics.control.labels(label).inc()
