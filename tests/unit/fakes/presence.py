"""Several nodes' presence on one Redis, moved by hand: no batch, no heartbeat, no second passes by itself."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service.metrics import Metrics
from service.sections import PresenceSettings
from service.streams import attendance as attendance_module
from service.streams import nodes as nodes_module
from service.streams import presence as presence_module
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.presence import Presence
from tests.unit.fakes.clock import Clock


def info(user: str) -> bytes:
    """What presence shows of a client."""
    return orjson.dumps({"user": user})


def join(node: Presence, client: str, user: str | None = None, channel: str = "chat:a") -> None:
    """A client of a user, by default of one named as it."""
    user = client if user is None else user
    node.join(channel, client, user, info(user), events=True)


class PresenceWorld:
    """Nodes that share a Redis under a prefix of their own."""

    def __init__(self, commands: Commands, prefix: str, patch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.commands = commands
        self.keys = Keys(prefix)
        self.settings = PresenceSettings(**settings)
        self.clock = Clock()
        for module in (attendance_module, nodes_module, presence_module):
            patch.setattr(module, "time", self.clock)

    def node(self, name: str, metrics: Metrics | None = None) -> Presence:
        """One more node, which nobody has heard of yet."""
        return Presence(self.settings, self.commands, self.keys, name, metrics or Metrics())

    async def alive(self) -> list[str]:
        """The nodes in the set."""
        names: list[bytes] = await self.commands.execute("ZRANGE", self.keys.nodes(), 0, -1)
        return sorted(name.decode().partition(".")[0] for name in names)

    async def silence(self, node: str) -> None:
        """A node was last heard so long ago that it is dead."""
        for name in await self.commands.execute("ZRANGE", self.keys.nodes(), 0, -1):
            if name.startswith(node.encode() + b"."):
                age = -int(self.settings.dead_seconds * 1000) - 1
                await self.commands.execute("ZINCRBY", self.keys.nodes(), age, name)

    async def listen(self, *nodes: Presence) -> None:
        """They beat for so long that they may judge; seconds pass."""
        for _ in range(int(self.settings.dead_seconds / self.settings.heartbeat_seconds) + 2):
            for node in nodes:
                await node.beat()
            self.clock.now += self.settings.heartbeat_seconds

    async def summary_period_over(self, channel: str) -> None:
        """The last summary was a period ago."""
        key = self.keys.beside("presence-summary", channel)
        await self.commands.execute("HINCRBY", key, "at", -int(self.settings.summary_seconds * 1000))

    async def told(self, channel: str) -> list[tuple[str, Any]]:
        """What subscribers were told, from the first on: ("join", user), ("leave", user), ("data", …)."""
        return self.read(await self.commands.execute("XRANGE", self.keys.live(channel), "-", "+"))

    @staticmethod
    def read(entries: list[tuple[bytes, list[bytes]]]) -> list[tuple[str, Any]]:
        """What entries of a live stream tell."""
        found: list[tuple[str, Any]] = []
        for _, (field, value) in entries:
            data = orjson.loads(value)
            kind = field.decode().removeprefix("_")
            found.append((kind, data if kind == "data" else data["user"]))
        return found

    async def left_over(self) -> set[str]:
        """Keys of the prefix beside the nodes' set, the live streams and what summaries add up."""
        keys: list[bytes] = await self.commands.execute("KEYS", f"*{{{self.keys.prefix}*")
        kinds = {key.decode().split(":")[1] for key in keys}
        return kinds - {"nodes", "live", "presence-summary"}
