"""What nodes report when they are asked: each writes its answer beside the others', where it soon expires."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson

from service.sections import PresenceSettings
from service.streams.commands import Commands
from service.streams.keys import Keys

#: Seconds that nodes are waited for, and between two looks at first.
PATIENCE, FIRST_LOOK = 1.0, 0.01

#: Seconds that answers are kept.
KEPT_SECONDS = 10


class Reported(NamedTuple):
    """The reports that came, and how many nodes live that gave none."""

    reports: list[dict[str, Any]]
    missing: int


class Reports:
    """Asks all nodes, and answers those that ask."""

    def __init__(self, settings: PresenceSettings, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys
        # A node that was stopped in order counts as dead after the grace; it is not waited for.
        lives = max(settings.dead_seconds - settings.grace_seconds, 1.5 * settings.heartbeat_seconds)
        self._lives_seconds = min(lives, settings.dead_seconds)

    async def ask(self, send: Callable[[str], Awaitable[None]]) -> Reported:
        """What all nodes report.

        Args:
            send: tells all nodes to `answer` to this name.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`; or of `send`.
        """
        name = secrets.token_hex(8)
        await send(name)
        ends, pause = time.monotonic() + PATIENCE, FIRST_LOOK
        while True:
            since = time.time() + self._commands.clock_offset - self._lives_seconds
            lives, answers = await self._commands.execute_all(
                [
                    ("ZRANGE", self._keys.nodes(), int(since * 1000), "+inf", "BYSCORE"),
                    ("HGETALL", self._keys.report(name)),
                ]
            )
            # A life is a node's name and a random word.
            missing = {life.partition(b".")[0] for life in lives} - answers.keys()
            if not missing or time.monotonic() > ends:
                return Reported([orjson.loads(answer) for answer in answers.values()], len(missing))
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)

    async def answer(self, name: str, node: str, report: bytes) -> None:
        """Tell whoever has asked under this name.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute_all`.
        """
        key = self._keys.report(name)
        await self._commands.execute_all([("HSET", key, node, report), ("EXPIRE", key, KEPT_SECONDS)])
