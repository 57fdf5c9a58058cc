"""Which nodes live: heartbeats in one sorted set.

A node is dead once it is struck off the set, and a name that was struck off is never used again: a node
that finds itself missing (it was silent for too long, Redis was flushed) begins a new life, under a new
name. So whatever belongs to a name that is not in the set can be removed, with no race against its return.

Only who has itself listened for `dead_seconds` strikes others off. After Redis was away nobody has, and
all nodes get the time to be heard again.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

from service.errors import CommandFailed
from service.sections import PresenceSettings
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.lua import Script

#: Seconds that the set outlives its last node.
KEPT_SECONDS = 3600

_BEAT = Script.of("service.streams.lua", "nodes_beat.lua")
_RETIRE = Script.of("service.streams.lua", "nodes_retire.lua")
_RUN_ID = re.compile(rb"run_id:(\w+)")


class Nodes:
    """This node among the others. Its calls must not overlap.

    Args:
        node: begins the name of each of this node's lives.
    """

    def __init__(self, settings: PresenceSettings, commands: Commands, keys: Keys, node: str) -> None:
        self._commands = commands
        self._key = keys.nodes()
        self._node = node
        self._dead_seconds = settings.dead_seconds
        self._run_id = b""
        #: When the unbroken series of heartbeats began, and its last one.
        self._since = self._last = float("-inf")
        #: Who was alive at the last heartbeat, and who was met since.
        self.known: set[str] = set()
        #: The name of this life.
        self.name = self._new_name()
        #: Whether the name is in the set. Before, nothing may be written under it.
        self.registered = False

    def _new_name(self) -> str:
        return f"{self._node}.{secrets.token_hex(4)}"

    def meet(self, names: Iterable[str]) -> bool:
        """Names were found in a channel; whether there are new ones, of which only a heartbeat can tell."""
        strangers = set(names) - self.known
        self.known |= strangers
        return bool(strangers)

    async def beat(self) -> set[str]:
        """Say that this node lives; returns the known names that have died.

        The node's own former name is among them where it begins a new life: it was struck off, or this
        is another Redis (restarted, failed over), which may lack any of the last writes. All that
        the node has is then to be written anew, under `name`.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`; nothing has changed.
        """
        name, former = self.name, None
        alive, run_id = await self._say(name, is_new=not self.registered)
        if self.registered and (name not in alive or run_id != self._run_id):
            name, former = self._new_name(), name
            alive, run_id = await self._say(name, is_new=True)
        self.name, self.registered, self._run_id = name, True, run_id
        dead = self.known - alive
        self.known = alive
        # The former name may still be in the set, and stays until it has been silent for long enough: by
        # then this node has written all it has.
        return dead if former is None else dead | {former}

    async def _say(self, name: str, *, is_new: bool) -> tuple[set[str], bytes]:
        now = time.monotonic()
        if now - self._last >= self._dead_seconds:
            self._since = now
        has_listened = now - self._since >= self._dead_seconds
        silent = int(self._dead_seconds * 1000) if has_listened else 0
        self._last = float("-inf")  # if there is no answer
        info, alive = await self._commands.pipeline(
            [
                ("INFO", "server"),
                ("EVAL", _BEAT.text, 1, self._key, name, int(is_new), silent, KEPT_SECONDS),
            ]
        )
        if isinstance(alive, CommandFailed):
            raise alive
        self._last = now
        found = None if isinstance(info, CommandFailed) else _RUN_ID.search(info)
        return {each.decode() for each in alive}, found.group(1) if found else b""

    async def retire(self, seconds: float) -> None:
        """Count as dead in so many seconds.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        milliseconds = int(seconds * 1000), int(self._dead_seconds * 1000)
        await self._commands.script(_RETIRE, [self._key], [self.name, *milliseconds])
