"""Commands that are not the tail's: publishing, history, epochs, trimming. One pipelined connection.

While Redis is away every call fails at once with `Unavailable`; the connection is made anew with
jittered back-off. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.backoff import Backoff
from service.streams.keys import Keys
from service.streams.link import Argument, Command, Link, Reply
from service.streams.lua import Script
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Seconds between two looks at Redis' clock, and at what Redis allows.
CLOCK_SECONDS = 30.0

#: Seconds between two looks while Redis refuses what a node cannot do without.
REFUSED_SECONDS = 2.0

#: Redis' words where it does not let this user do something, or takes no writes from anybody.
_NOT_ALLOWED = re.compile(r"NOPERM|READONLY|user executing the script")

#: The same, and where it is only for a while.
_REFUSED = re.compile(_NOT_ALLOWED.pattern + r"|OOM |MISCONF|NOREPLICAS")

#: A write that changes nothing, by a script: as they make epochs.
_PROBE = "return redis.call('PERSIST', KEYS[1])"


class Commands:
    """The command connection to one primary. `run` keeps it up and ends when cancelled."""

    def __init__(self, settings: RedisSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._keys = Keys(settings.key_prefix)
        self._log_limit = OncePer(60.0)
        #: Redis' clock minus ours, in seconds, measured at the shortest round trip.
        self.clock_offset = 0.0
        #: What Redis refuses that a node cannot do without, and why; None: nothing.
        self.refusal: str | None = None

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
                link = await self._open()
            except Unavailable:
                self._metrics.redis_errors.labels("connect").inc()
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._link = link
            self._connected.set()
            try:
                await self._watch(link)
            finally:
                self._link = None
                self._connected.clear()
                link.close()
            self._metrics.redis_reconnects.labels("commands").inc()
            await asyncio.sleep(backoff.next())

    async def _open(self) -> Link:
        """A connection that has been seen to answer as Redis does."""
        link = await Link.open(self._settings)
        try:
            await self._measure_clock(link)
            await self._probe(link)
        except BaseException:
            link.close()
            raise
        return link

    async def _watch(self, link: Link) -> None:
        """Look at the clock and the probe now and then, until the connection is lost: its health check."""
        while not link.closed.done():
            seconds = CLOCK_SECONDS if self.refusal is None else REFUSED_SECONDS
            await asyncio.wait([link.closed], timeout=seconds)
            try:
                await self._measure_clock(link)
                await self._probe(link)
            except Unavailable:
                return

    async def _measure_clock(self, link: Link) -> None:
        best = float("inf")
        for _ in range(5):
            before = time.time()
            (reply,) = await link.call([("TIME",)])
            after = time.time()
            if isinstance(reply, CommandFailed):  # the two clocks are taken to be the same
                self._note(("TIME",), reply)
                return
            if not isinstance(reply, list) or not all(isinstance(part, bytes) for part in reply):
                raise self._no_redis("TIME", reply)
            try:
                seconds, micros = map(int, reply)
            except ValueError:
                raise self._no_redis("TIME", reply) from None
            if after - before < best:
                best = after - before
                self.clock_offset = seconds + micros / 1e6 - (before + after) / 2
        self._metrics.clock_offset.set(self.clock_offset)

    async def _probe(self, link: Link) -> None:
        """Find out whether Redis lets this node do what it cannot do without: scripts, writes, reads."""
        control = self._keys.control()
        never = self._keys.epoch("streamgate:probe:{%s}" % self._keys.prefix)  # noqa: UP031 - braces
        commands: list[Command] = [
            ("EVAL", _PROBE, 1, never),
            ("XREAD", "COUNT", 1, "STREAMS", control, "$"),
        ]
        scripted, read = await link.call(commands)
        self.refusal = None
        for command, reply in zip(commands, (scripted, read), strict=True):
            if isinstance(reply, CommandFailed) and _NOT_ALLOWED.search(str(reply)):
                self._note(command, reply)
                self.refusal = self.refusal or f"Redis refuses {command[0]!s}: {reply}"
        if not isinstance(scripted, int | CommandFailed) or not isinstance(read, dict | CommandFailed | None):
            raise self._no_redis("EVAL and XREAD", (scripted, read))

    def _no_redis(self, command: str, reply: Reply) -> Unavailable:
        if self._log_limit.allows("no Redis"):
            logger.warning("what answers at redis.url is no Redis: to %s it says %.200r", command, reply)
        return Unavailable(f"no answer to {command}")

    def _note(self, command: Command, reply: Reply) -> None:
        """Tell of a refusal that is not the command's own fault."""
        if isinstance(reply, CommandFailed) and _REFUSED.search(str(reply)):
            name = str(command[0])
            if self._log_limit.allows(name):
                logger.warning("Redis refuses %s: %s", name, reply)

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
        for command, reply in zip(commands, replies, strict=True):
            self._note(command, reply)
        name = str(commands[0][0]).lower()
        self._metrics.redis_seconds[name].observe(time.perf_counter() - started)
        return replies

    async def execute(self, *command: Argument) -> Reply:
        """The reply to one command.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis answered with an error.
        """
        (reply,) = await self.execute_all([command])
        return reply

    async def execute_all(self, commands: Sequence[Command]) -> list[Reply]:
        """One reply for each command; none for none.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis answered one of them with an error.
        """
        replies = await self.pipeline(commands) if commands else []
        for reply in replies:
            if isinstance(reply, CommandFailed):
                self._metrics.redis_errors.labels("refused").inc()
                raise reply
        return replies

    async def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The reply of a script, of which Redis is sent the text only where it does not know it.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis, or the script, answered with an error.
        """
        (reply,) = await self.scripts(script, [(keys, arguments)])
        if isinstance(reply, CommandFailed):
            self._metrics.redis_errors.labels("refused").inc()
            raise reply
        return reply

    async def scripts(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[Reply]:
        """One reply for each call, by its keys and arguments; an error is a `CommandFailed` in the list.

        Raises:
            Unavailable: as for `pipeline`.
        """
        operands = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self.pipeline([("EVALSHA", script.sha, *each) for each in operands])
        unknown = [at for at, reply in enumerate(replies) if _is_unknown(reply)]
        if unknown:  # nothing was done by these
            again = await self.pipeline([("EVAL", script.text, *operands[at]) for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        return replies

    async def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies of a MULTI; an error of one command is a `CommandFailed` in the list.

        Raises:
            Unavailable: as for `pipeline`.
            CommandFailed: Redis refused the transaction.
        """
        *queued, executed = await self.pipeline([("MULTI",), *commands, ("EXEC",)])
        if isinstance(executed, CommandFailed):
            self._metrics.redis_errors.labels("refused").inc()
            # Why it was not executed was told before.
            raise next((reply for reply in queued if isinstance(reply, CommandFailed)), executed)
        if not isinstance(executed, list):
            raise CommandFailed("transaction discarded")
        return executed


def _is_unknown(reply: Reply) -> bool:
    return isinstance(reply, CommandFailed) and str(reply).startswith("NOSCRIPT")
