"""Following channels: what Redis appends to their streams is handed on, in order, without a gap.

Reads arm their own hints (`CLIENT TRACKING`): having read a stream, Redis pushes one `invalidate`
at its next change. A push makes the channel dirty; one pipeline reads all dirty channels from
their cursors, which arms them again. Every read starts just below the cursor and must find the
cursor's own entry; where it does not, the channel is read again together with the stream's state
in one MULTI, and `position.is_complete` decides whether there is a gap. The sweep (sweep.py) reads
every channel once in a while, so that a lost hint costs delay and never an entry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Protocol

from service.channels import LIVE, Namespace
from service.errors import CommandFailed, ReplyError, Unavailable, UndeliverableEntry
from service.hub.hub import Start
from service.hub.publication import Publication
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams import entries
from service.streams.backoff import Backoff
from service.streams.entries import RawEntry
from service.streams.followed import BYTES_PER_READ, Advance, Followed, Outcome, Restart, Unproved
from service.streams.history import History
from service.streams.keys import Keys
from service.streams.link import Command, Link
from service.streams.position import ZERO, StreamId, below, parse_id
from service.streams.quiet import OncePer
from service.streams.sweep import Sweep

logger = logging.getLogger(__name__)

#: Entries one pipeline may bring at most: channels times COUNT. About 2 MB of quotes.
ENTRIES_PER_READ = 16_384

#: Channels one pipeline reads at most.
CHANNELS_PER_READ = 1024

#: Bytes of a pipeline's replies from which on it is seen which channels they were of.
MANY_BYTES = 2**20

#: Seconds that replies are worked on before the event loop gets its turn.
SLICE = 0.002

#: Seconds before a channel whose read failed is read again; doubled up to the last.
RETRY_FIRST, RETRY_LAST = 0.1, 5.0


class Sink(Protocol):
    """Who receives what the tail reads. All calls are made from the tail's task."""

    async def ready(self) -> None:
        """Return when there is room for more; the tail does not read before."""

    def begin(self, channel: str, start: Start) -> None:
        """The channel is followed from `start` on."""

    def deliver(self, channel: str, publications: list[Publication], cursor: StreamId) -> None:
        """The next publications of a channel, in order; `cursor` is the last id read."""

    def gap(self, channel: str, start: Start) -> None:
        """Continuity broke; the channel goes on from `start`."""

    def flush(self) -> None:
        """What has been delivered may go out."""


class Tail:
    """Follows channels of one primary. `run` does the work and ends when cancelled."""

    def __init__(
        self,
        settings: RedisSettings,
        keys: Keys,
        history: History,
        sink: Sink,
        max_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._history = history
        self._sink = sink
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._followed: dict[bytes, Followed] = {}
        # Insertion order is arrival order: the first has waited longest.
        self._dirty: dict[Followed, float] = {}
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._log_limit = OncePer(60.0)
        # Whether the log says that Redis is away.
        self._told_away = False

    @property
    def connected(self) -> bool:
        """Whether the tail has its connection."""
        return self._link is not None

    def lag(self) -> float:
        """Seconds that the channel which waits longest to be read has waited; 0 when none waits."""
        first = next(iter(self._dirty.values()), None)
        return 0.0 if first is None else max(0.0, time.monotonic() - first)

    # Following

    async def follow(self, channel: str, namespace: Namespace) -> None:
        """Begin to follow a channel at its stream's last generated id: `Sink.begin` tells where.

        Raises:
            Unavailable: Redis did not answer in time; the channel is not followed.
            CommandFailed: the key holds no stream, or Redis does not allow to read it.
            ReplyError: 108, the stream's ids are too large, or what should be its epoch is none.
        """
        epoch = await self._history.epoch(channel, make=True)
        key = self._keys.stream(channel).encode()
        followed = self._followed[key] = Followed(channel, key, namespace, epoch)
        try:
            await self._read_through(followed)
        except BaseException:
            self._drop(followed)  # also if it began in the last moment: nobody would unfollow it
            raise

    def unfollow(self, channel: str) -> None:
        """Forget a channel. A stray push may follow; nothing is delivered any more."""
        followed = self._followed.get(self._keys.stream(channel).encode())
        if followed is not None:
            self._drop(followed)

    async def sync(self, channel: str) -> None:
        """Read a followed channel now; return when all that its stream holds is delivered.

        Raises:
            Unavailable: Redis did not answer in time, or the channel is not followed.
        """
        followed = self._followed.get(self._keys.stream(channel).encode())
        if followed is None:
            raise Unavailable("the channel is not followed")
        await self._read_through(followed)

    async def _read_through(self, followed: Followed) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        followed.waiters.append(waiter)
        self.mark(followed)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await waiter
        except TimeoutError:
            raise Unavailable("the tail did not get an answer from Redis in time") from None

    def _drop(self, followed: Followed) -> None:
        self._dirty.pop(followed, None)
        if self._followed.get(followed.key) is followed:
            del self._followed[followed.key]
        followed.end()

    def mark(self, followed: Followed) -> None:
        """Have a channel read, if it is still followed."""
        if followed not in self._dirty and self._followed.get(followed.key) is followed:
            self._dirty[followed] = time.monotonic()
            self._wake.set()

    # The connection

    async def run(self) -> None:
        """Follow, through all of Redis' absences; never returns."""
        backoff = Backoff()
        while True:
            try:
                await self._follow_over_one_connection(backoff)
            except Unavailable as exc:
                self._metrics.redis_errors.labels("tail").inc()
                if self._log_limit.allows("redis"):
                    logger.warning("no connection to Redis; clients stay connected, and wait: %s", exc)
                    self._told_away = True
            except Exception:  # a fault of ours: a new connection reads on from the cursors
                logger.exception("the tail failed, and begins anew")
            await asyncio.sleep(backoff.next())

    async def _follow_over_one_connection(self, backoff: Backoff) -> None:
        link = await Link.open(self._settings, self._on_push)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(link.close)
            link.closed.add_done_callback(lambda _: self._wake.set())
            tracking = await self._track(link)
            sweep = Sweep(self._settings, self._history, self.mark, self._metrics, tracking=tracking)
            # Another epoch means another stream under the same name: known before the first read.
            await sweep.check_epochs(list(self._followed.values()))
            # Reading all at once recovers what was missed and arms every hint.
            for followed in self._followed.values():
                self.mark(followed)
            self._link = link
            self._metrics.tail_connected.set(1)
            stack.callback(self._disconnected)
            backoff.reset()
            if self._told_away:
                self._told_away = False
                logger.info(
                    "connected to Redis again; %d channels go on where they were", len(self._followed)
                )
            sweeper = asyncio.create_task(sweep.run(self._followed))
            stack.push_async_callback(_cancel, sweeper)
            await self._read_loop(link, sweep)

    def _disconnected(self) -> None:
        self._metrics.redis_reconnects.labels("tail").inc()
        self._link = None
        self._metrics.tail_connected.set(0)

    async def _track(self, link: Link) -> bool:
        (reply,) = await link.call([("CLIENT", "TRACKING", "ON")])
        if reply in (b"OK", "OK"):
            return True
        if not isinstance(reply, CommandFailed):
            raise Unavailable(f"no answer to CLIENT TRACKING: {reply!r}")
        logger.warning(
            "Redis refuses CLIENT TRACKING (%s): followed channels are polled every %g ms instead",
            reply,
            self._settings.poll_interval_ms,
        )
        return False

    def _on_push(self, push: list[object]) -> None:
        match push:
            case [b"invalidate", list(keys)]:
                wanted = (self._followed.get(key) for key in keys if isinstance(key, bytes))
                changed = [followed for followed in wanted if followed is not None]
            case [b"invalidate", None]:  # FLUSHALL: everything changed
                changed = list(self._followed.values())
            case _:
                return
        for followed in changed:
            followed.hinted = True
            self.mark(followed)

    async def _read_loop(self, link: Link, sweep: Sweep) -> None:
        interval = self._settings.read_interval_ms / 1000
        while not link.closed.done():
            if not self._dirty:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._sink.ready()
            await self._read(link, self._take_batch(), sweep)
            if interval:
                await asyncio.sleep(interval)
        raise Unavailable(link.closed.result())

    # Reading

    def _take_batch(self) -> list[Followed]:
        """The dirty channels that have waited longest, as far as one pipeline can bring them.

        One with large entries is read by itself when its turn has come: the others go before and after.
        """
        batch: list[Followed] = []
        room = BYTES_PER_READ
        for followed in self._dirty:
            if len(batch) == CHANNELS_PER_READ or room <= 0:
                break
            if not batch or followed.weight <= room:
                batch.append(followed)
                room -= followed.weight
        for followed in batch:
            del self._dirty[followed]
        return batch

    async def _read(self, link: Link, batch: list[Followed], sweep: Sweep) -> None:
        """Read these channels in one pipeline, and deliver."""
        most = ENTRIES_PER_READ // len(batch)
        commands: list[Command] = []
        for followed in batch:
            commands += followed.request(most)
        before = link.received
        try:
            replies = await link.call(commands)
        except Unavailable:
            for followed in batch:  # to be read once there is a connection again
                followed.read_lost()
                self.mark(followed)
            raise
        weigh = link.received - before >= MANY_BYTES
        self._metrics.tail_reads.inc(len(batch))
        turn_ends = time.perf_counter() + SLICE
        last = -1
        for followed in batch:
            # MULTI and what it queues are answered before EXEC: only the last reply says something.
            last += followed.commands_sent
            if self._followed.get(followed.key) is not followed:
                continue
            try:
                outcome = followed.judge(replies[last], weigh=weigh)
                if followed.hinted:
                    sweep.count_hint(empty=isinstance(outcome, Advance) and not outcome.entries)
                self._apply(followed, outcome)
            except (CommandFailed, ReplyError) as exc:
                self._failed(followed, exc)
            except Exception as exc:  # a fault of ours, with one channel: the others go on
                logger.exception("channel %s: a read could not be handled", followed.channel)
                self._failed(followed, CommandFailed(f"FAULT {exc}"))
            if time.perf_counter() > turn_ends:
                self._sink.flush()
                await asyncio.sleep(0)
                turn_ends = time.perf_counter() + SLICE
        self._sink.flush()

    def _apply(self, followed: Followed, outcome: Outcome) -> None:
        match outcome:
            case Unproved():
                followed.check = True
                self.mark(followed)
            case Restart():
                self._restart(followed, outcome)
                followed.read_done()
            case Advance(raw, full):
                if raw:
                    self._deliver(followed, raw)
                if full:
                    self.mark(followed)
                else:
                    followed.read_done()

    def _restart(self, followed: Followed, outcome: Restart) -> None:
        followed.cursor, followed.added = outcome.state.last_id, outcome.state.entries_added
        newest = self._decode(followed, outcome.last_entry) if outcome.last_entry else None
        reach = below(newest.id) if newest else followed.cursor
        start = Start(followed.cursor, followed.epoch, newest, reach)
        if not outcome.is_gap or followed.namespace is LIVE:
            self._sink.begin(followed.channel, start)
            return
        self._metrics.gaps.labels(followed.label).inc()
        if self._log_limit.allows(followed.channel):
            logger.warning(
                "channel %s: entries were removed from its stream before this node read them; "
                "its subscribers are told of the gap and go on after entry %d-%d",
                followed.channel,
                *start.cursor,
            )
        self._sink.gap(followed.channel, start)

    def _deliver(self, followed: Followed, raw: list[RawEntry]) -> None:
        decoded = [self._decode(followed, entry) for entry in raw]
        if followed.cursor == ZERO:
            followed.refresh_epoch = True  # it expires while there is no stream; now there is one
        cursor = followed.moved(raw)
        self._metrics.entries[followed.label].inc(len(raw))
        publications = [publication for publication in decoded if publication is not None]
        self._sink.deliver(followed.channel, publications, cursor)

    def _decode(self, followed: Followed, entry: RawEntry) -> Publication | None:
        entry_id = parse_id(entry[0])
        try:
            return entries.decode(entry_id, entry[1], followed.namespace, self._max_bytes)
        except UndeliverableEntry as exc:
            self._metrics.undeliverable.labels(exc.args[0]).inc()
            if self._log_limit.allows(followed.channel):
                logger.warning("channel %s: entry %d-%d not delivered: %s", followed.channel, *entry_id, exc)
            return None

    def _failed(self, followed: Followed, exc: CommandFailed | ReplyError) -> None:
        """The channel cannot be read now: it is tried again, with back-off."""
        kind = "range" if isinstance(exc, ReplyError) else str(exc).partition(" ")[0]
        self._metrics.tail_errors.labels(kind).inc()
        if self._log_limit.allows(followed.channel):
            logger.warning("channel %s: cannot be read: %s", followed.channel, exc)
        if followed.cursor is None:
            followed.end(exc)
            return
        followed.retry = min(max(followed.retry * 2, RETRY_FIRST), RETRY_LAST)
        asyncio.get_running_loop().call_later(followed.retry, self.mark, followed)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
