"""Trimming streams that foreign producers write without limits. One node at a time does it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable

from service import channels
from service.channels import Namespace
from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.link import Command

logger = logging.getLogger(__name__)

#: Keys that one SCAN looks at: about a millisecond of Redis.
SCAN_COUNT = 500

#: Seconds between two SCANs, so that a walk over millions of streams never holds up the others.
PAUSE = 0.01


class Trimmer:
    """Walks over all streams once in a period, if no other node does.

    Args:
        namespace_of: the namespace of a channel; None where there is none.
        period: seconds; 0: never.
    """

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        namespace_of: Callable[[str], Namespace | None],
        period: float,
        metrics: Metrics,
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._namespace_of = namespace_of
        self._period = period
        self._metrics = metrics

    async def run(self) -> None:
        """Trim now and then; never returns."""
        while self._period:
            await asyncio.sleep(self._period)
            try:
                await self._trim_if_first()
            except (Unavailable, CommandFailed) as exc:
                logger.warning("trimming failed, to be tried again in %g s: %s", self._period, exc)
        await asyncio.Event().wait()

    async def _trim_if_first(self) -> None:
        lease = ("SET", self._keys.trim_lease(), secrets.token_hex(8), "NX", "PX", int(self._period * 1000))
        # The lease ends by itself: it stands for this period's walk, whoever did it.
        if await self._commands.execute(*lease) is None:
            return
        started = time.monotonic()
        await self.trim_all()
        self._metrics.trim_seconds.set(time.monotonic() - started)
        self._metrics.trim_last.set_to_current_time()

    async def trim_all(self) -> None:
        """Trim every stream to its namespace's size and age, about.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        cursor = b"0"
        pattern = re.sub(r"[*?\[\]\\]", r"\\\g<0>", self._keys.prefix) + "*"
        while True:
            reply = await self._commands.execute(
                "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, "TYPE", "stream"
            )
            cursor, found = reply
            await self._trim(found)
            if cursor == b"0":
                return
            await asyncio.sleep(PAUSE)

    async def _trim(self, stream_keys: list[bytes]) -> None:
        commands: list[Command] = []
        labels: list[str] = []
        for key in stream_keys:
            channel = self._keys.channel(key)
            namespace = None if channel is None else self._namespace_of(channel)
            if channel is None or namespace is None:
                continue
            if namespace.history_size:
                commands.append(("XTRIM", key, "MAXLEN", "~", namespace.history_size))
                labels.append(channels.label(channel))
            if namespace.history_ttl:
                oldest = int((time.time() + self._commands.clock_offset - namespace.history_ttl) * 1000)
                commands.append(("XTRIM", key, "MINID", "~", oldest))
                labels.append(channels.label(channel))
        if not commands:
            return
        for label, trimmed in zip(labels, await self._commands.pipeline(commands), strict=True):
            if isinstance(trimmed, CommandFailed):
                raise trimmed
            if trimmed:
                self._metrics.trimmed.labels(label).inc(trimmed)
