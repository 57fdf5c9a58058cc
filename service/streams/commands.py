"""Commands that are not the tail's: publishing, history, epochs, trimming. One pipelined connection.

While Redis is away every call fails at once with `Unavailable`; the connection is made anew with
jittered back-off. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.backoff import Backoff
from service.streams.link import Argument, Command, Link, Reply
from service.streams.lua import Script

#: Seconds between two looks at Redis' clock.
CLOCK_SECONDS = 30.0


class Commands:
    """The command connection to one primary. `run` keeps it up and ends when cancelled."""

    def __init__(self, settings: RedisSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._link: Link | None = None
        self._connected = asyncio.Event()
        #: Redis' clock minus ours, in seconds, measured at the shortest round trip.
        self.clock_offset = 0.0

    @property
    def connected(self) -> bool:
        """Whether a call has a chance now."""
        return self._link is not None

    async def wait_connected(self) -> None:
        """Return when there is a connection."""
        await self._connected.wait()

    async def run(self) -> None:
        """Hold a connection; never returns."""
        backoff = Backoff()
        while True:
            try:
                link = await Link.open(self._settings)
            except Unavailable:
                self._metrics.redis_errors.labels("connect").inc()
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._link = link
            self._connected.set()
            try:
                await self._watch_clock(link)
            finally:
                self._link = None
                self._connected.clear()
                link.close()
            self._metrics.redis_reconnects.labels("commands").inc()
            await asyncio.sleep(backoff.next())

    async def _watch_clock(self, link: Link) -> None:
        """Measure the clock now and then, until the connection is lost. Serves as its health check."""
        while not link.closed.done():
            try:
                await self._measure_clock(link)
            except (Unavailable, CommandFailed):
                return
            await asyncio.wait([link.closed], timeout=CLOCK_SECONDS)

    async def _measure_clock(self, link: Link) -> None:
        best = float("inf")
        for _ in range(5):
            before = time.time()
            (reply,) = await link.call([("TIME",)])
            after = time.time()
            if isinstance(reply, CommandFailed):
                raise reply
            if after - before < best:
                best = after - before
                self.clock_offset = int(reply[0]) + int(reply[1]) / 1e6 - (before + after) / 2
        self._metrics.clock_offset.set(self.clock_offset)

    async def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """One reply for each command; an error of Redis is a `CommandFailed` in the list.

        Raises:
            Unavailable: there is no connection, or it was lost before the last reply.
        """
        link = self._link
        if link is None:
            self._metrics.redis_errors.labels("unavailable").inc()
            raise Unavailable("not connected to Redis")
        started = time.perf_counter()
        try:
            replies = await link.call(commands)
        except Unavailable:
            self._metrics.redis_errors.labels("unavailable").inc()
            raise
        name = str(commands[0][0]).lower()
        self._metrics.redis_seconds.labels(name).observe(time.perf_counter() - started)
        return replies

    async def execute(self, *command: Argument) -> Reply:
        """The reply to one command.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis answered with an error.
        """
        (reply,) = await self.pipeline([command])
        if isinstance(reply, CommandFailed):
            self._metrics.redis_errors.labels("refused").inc()
            raise reply
        return reply

    async def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The reply of a script, of which Redis is sent the text only where it does not know it.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis, or the script, answered with an error.
        """
        operands: tuple[Argument, ...] = (len(keys), *keys, *arguments)
        (reply,) = await self.pipeline([("EVALSHA", script.sha, *operands)])
        if isinstance(reply, CommandFailed) and str(reply).startswith("NOSCRIPT"):  # nothing was done
            (reply,) = await self.pipeline([("EVAL", script.text, *operands)])
        if isinstance(reply, CommandFailed):
            self._metrics.redis_errors.labels("refused").inc()
            raise reply
        return reply

    async def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies of a MULTI; an error of one command is a `CommandFailed` in the list.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis refused the transaction.
        """
        replies = await self.pipeline([("MULTI",), *commands, ("EXEC",)])
        executed = replies[-1]
        if isinstance(executed, CommandFailed):
            self._metrics.redis_errors.labels("refused").inc()
            raise executed
        if not isinstance(executed, list):
            raise CommandFailed("transaction discarded")
        return executed
