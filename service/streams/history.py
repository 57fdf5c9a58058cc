"""Reading what a stream holds: states, pages, and what a recovery needs."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from service.channels import Namespace
from service.errors import CommandFailed, ReplyError, not_available
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams import entries
from service.streams.commands import Commands
from service.streams.entries import RawEntry
from service.streams.keys import Keys
from service.streams.link import Command, Reply
from service.streams.lua import EPOCH
from service.streams.position import (
    SATURATED,
    ZERO,
    StreamId,
    check_range,
    format_id,
    is_complete,
    parse_id,
    parse_state,
)
from service.tasks import Tasks

#: Seconds that an epoch outlives a stream that does not exist: anybody can ask for names.
EPOCH_TTL = 600

#: Bytes of JSON that a page or a recovery holds at most.
PAGE_BYTES = 512 * 1024

#: Entries that are asked for where nothing is known of their size, and how many times more next time.
FIRST_SLICE, GROWTH = 8, 4

#: Bytes read for one page or recovery at most, with all the entries that cannot be delivered.
READ_BYTES = 16 * 2**20

#: What an epoch looks like; anything else under its key is somebody else's.
_EPOCH = re.compile(rb"[\w-]{1,64}")


class Since(NamedTuple):
    """What came after a position.

    `complete` is False where something is missing or there is more than was asked for; then
    `publications` is empty. `top` is the stream's last generated id.
    """

    complete: bool
    publications: list[Publication]
    top: StreamId


class Page(NamedTuple):
    """A page of history and the stream's last generated id."""

    publications: list[Publication]
    top: StreamId


class _Range(NamedTuple):
    """What was read of a range: `read` entries, up to the id `last`. Not `whole`: cut off for its size."""

    publications: list[Publication]
    last: StreamId | None
    read: int
    whole: bool


class History:
    """Reads streams over the command connection.

    Args:
        max_bytes: largest payload.
        page_bytes: bytes of JSON that a page or a recovery holds at most.
        epoch_seconds: that an epoch outlives a stream that does not exist.
    """

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        max_bytes: int,
        metrics: Metrics,
        *,
        page_bytes: int = PAGE_BYTES,
        epoch_seconds: int = EPOCH_TTL,
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._page_bytes = page_bytes
        self.epoch_seconds = epoch_seconds
        self._tasks = Tasks()
        self._since_reads: dict[tuple[str, StreamId, int], asyncio.Task[Since]] = {}

    async def aclose(self) -> None:
        """End what is under way."""
        await self._tasks.aclose()

    async def epoch(self, channel: str, *, make: bool = False) -> str:
        """The epoch of the channel's stream; "" where there is no stream and none followed, unless `make`.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
            ReplyError: 108, the epoch's key holds something else.
        """
        seconds = self.epoch_seconds if make else 0
        try:
            reply = await self._commands.execute(*self._ensure_epoch(channel, None, seconds))
        except CommandFailed as exc:
            if not str(exc).startswith("WRONGTYPE"):
                raise
            raise self._foreign(channel) from None
        if reply == b"" and not make:
            return ""
        epoch = _epoch(reply)
        if epoch is None:
            raise self._foreign(channel)
        return epoch

    def _foreign(self, channel: str) -> ReplyError:
        return not_available(f"the key {self._keys.epoch(channel)} holds no epoch")

    async def ensure_epochs(self, wanted: Sequence[tuple[str, str | None]]) -> list[str | None]:
        """The epochs of channels; where there is none, the one given or a new one becomes it.

        None where Redis refused, or the epoch's key holds something else.

        Raises:
            Unavailable: as `Commands.pipeline`.
        """
        commands = [self._ensure_epoch(channel, value, self.epoch_seconds) for channel, value in wanted]
        return [_epoch(reply) for reply in await self._commands.pipeline(commands)]

    def _ensure_epoch(self, channel: str, otherwise: str | None, seconds: int) -> Command:
        stream, epoch = self._keys.stream(channel), self._keys.epoch(channel)
        is_live = int(self._keys.is_live(channel))
        return ("EVAL", EPOCH, 2, stream, epoch, otherwise or secrets.token_hex(8), seconds, is_live)

    async def epochs(self, channels: list[str]) -> list[str | None]:
        """The epochs there are now, None where there is none or Redis refused to tell.

        Raises:
            Unavailable: as `Commands.pipeline`.
        """
        replies = await self._commands.pipeline([("GET", self._keys.epoch(c)) for c in channels])
        return [_epoch(reply) for reply in replies]

    async def since(self, channel: str, namespace: Namespace, position: StreamId, limit: int) -> Since:
        """All that came after a position, at most `limit` entries. Equal calls at one time share a read.

        Raises:
            Unavailable, CommandFailed: as `Commands.transaction`.
            ReplyError: 108, ids too large.
        """
        key = (channel, position, limit)
        task = self._since_reads.get(key)
        if task is None:
            task = self._tasks.start(self._read_since(channel, namespace, position, limit))
            self._since_reads[key] = task
            task.add_done_callback(lambda _: self._since_reads.pop(key))
        # Shielded: one caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    async def _read_since(self, channel: str, namespace: Namespace, position: StreamId, limit: int) -> Since:
        self._metrics.history_reads.inc()
        key = self._keys.stream(channel)
        # From the position itself, to see whether it is there still; one more tells of too many.
        count = min(limit + 2, FIRST_SLICE)
        info, raw = await self._commands.transaction(
            [("XINFO", "STREAM", key), ("XRANGE", key, format_id(position), "+", "COUNT", count)]
        )
        state = parse_state(info)
        if isinstance(raw, CommandFailed):
            raise raw
        check_range(state.last_id)
        present = bool(raw) and parse_id(raw[0][0]) == position
        if not is_complete(position, state, present=present):
            return Since(False, [], state.last_id)
        most = limit + 1 if present else limit
        found = await self._read_on(key, namespace, raw, count, most + 1, state.last_id, reverse=False)
        if not found.whole or found.read > most:
            return Since(False, [], state.last_id)
        return Since(True, [p for p in found.publications if p.id > position], state.last_id)

    async def _read_on(
        self,
        key: str,
        namespace: Namespace,
        raw: list[RawEntry],
        asked: int,
        most: int,
        top: StreamId,
        *,
        reverse: bool,
    ) -> _Range:
        """Read a range on, in slices, so that neither Redis nor this node holds much of it at a time.

        Args:
            raw: its first slice, for which so many were `asked`.
            most: entries.
            top: the last id of the stream, as it was when the first slice was read.
        """
        found: list[Publication] = []
        command, stop = ("XREVRANGE", b"-") if reverse else ("XRANGE", format_id(top))
        size = weight = read = 0
        new = raw
        while new:
            read += len(new)
            weight += sum(sum(map(len, fields)) for _, fields in new)
            for publication in entries.decode_all(new, namespace, self._max_bytes):
                size += len(publication.json)
                if size > self._page_bytes and found:
                    return _Range(found, found[-1].id, read, whole=False)
                found.append(publication)
            last = new[-1][0]
            if len(raw) < asked or read >= most:
                return _Range(found, parse_id(last), read, whole=True)
            if weight > READ_BYTES:
                break
            fitting = (self._page_bytes - size) * read // max(weight, 1)
            # With the last one again: where it is gone, others may be that came after it.
            asked = 1 + max(1, min(asked * GROWTH, most - read, fitting))
            raw = await self._commands.execute(command, key, last, stop, "COUNT", asked)
            if not raw or raw[0][0] != last:
                break
            new = raw[1:]
        else:
            return _Range(found, parse_id(last) if read else None, read, whole=True)
        return _Range(found, parse_id(last), read, whole=False)

    async def newest(self, channel: str, namespace: Namespace) -> Publication | None:
        """The last entry that can be delivered among the last few.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        self._metrics.history_reads.inc()
        for count in (1, 4):  # nearly always the last one
            raw = await self._commands.execute(
                "XREVRANGE", self._keys.stream(channel), "+", "-", "COUNT", count
            )
            if found := entries.decode_all(raw, namespace, self._max_bytes):
                return found[0]
        return None

    async def page(
        self, channel: str, namespace: Namespace, since: StreamId | None, limit: int, *, reverse: bool
    ) -> Page:
        """A page of at most `limit` entries (and the rest of a run that shares one offset).

        It ends early where it would hold too many bytes.

        Args:
            since: exclusive start; None: from the beginning, or from the end when `reverse`.
            limit: 0: the position only.

        Raises:
            Unavailable, CommandFailed: as `Commands.transaction`.
            ReplyError: 108, ids too large.
        """
        self._metrics.history_reads.inc()
        key = self._keys.stream(channel)
        if reverse and since == ZERO:
            limit = 0  # nothing comes before the beginning
        count = min(limit, FIRST_SLICE)
        requests: list[Command] = [("XINFO", "STREAM", key)]
        if limit:
            requests.append(_range(key, since, count, reverse=reverse))
        replies = await self._commands.transaction(requests)
        state = parse_state(replies[0])
        check_range(state.last_id)
        if not limit:
            return Page([], state.last_id)
        if isinstance(replies[1], CommandFailed):
            raise replies[1]
        found = await self._read_on(key, namespace, replies[1], count, limit, state.last_id, reverse=reverse)
        publications = found.publications
        last, rest = await self._rest_of_run(key, namespace, found, limit, reverse=reverse)
        publications += rest
        if since is not None and last is not None and not reverse and _same_run(since, last):
            # Nothing but the rest of the run that `since` stands in: go on behind it.
            raw = await self._commands.execute(*_range(key, last, count, reverse=False))
            found = await self._read_on(key, namespace, raw, count, limit, state.last_id, reverse=False)
            _, rest = await self._rest_of_run(key, namespace, found, limit, reverse=False)
            publications += found.publications + rest
        return Page(publications, state.last_id)

    async def remove(self, channel: str) -> None:
        """Remove all entries of a channel's stream.

        The stream stays, empty, and so do its epoch and last id. Whoever has an earlier position is told of
        a gap, whoever has the last one with the next entry: Redis no longer tells the one from the other.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._commands.execute("XTRIM", self._keys.stream(channel), "MAXLEN", 0)

    async def _rest_of_run(
        self, key: str, namespace: Namespace, page: _Range, limit: int, *, reverse: bool
    ) -> tuple[StreamId | None, list[Publication]]:
        """A page never ends inside a run of entries that share a saturated offset: what it lacks of one.

        With the last id that was read.
        """
        last = page.last
        if last is None or last[1] < SATURATED or (page.whole and page.read < limit):
            return last, []
        ms = last[0]
        if reverse:
            command, end = "XREVRANGE", b"%d-%d" % (ms, SATURATED)
        else:
            command, end = "XRANGE", b"%d" % ms
        raw = await self._commands.execute(command, key, b"(" + format_id(last), end)
        return (parse_id(raw[-1][0]) if raw else last), entries.decode_all(raw, namespace, self._max_bytes)


def _epoch(reply: Reply) -> str | None:
    return reply.decode() if isinstance(reply, bytes) and _EPOCH.fullmatch(reply) else None


def _range(key: str, since: StreamId | None, count: int, *, reverse: bool) -> Command:
    """The first entries after (or before) a position, which is not among them."""
    start = "+" if reverse else "-"
    exclusive = b"(" + format_id(since) if since is not None else start
    return ("XREVRANGE" if reverse else "XRANGE", key, exclusive, "-" if reverse else "+", "COUNT", count)


def _same_run(since: StreamId, last: StreamId) -> bool:
    """Whether a position that a saturated offset stands for and an entry are of the same run."""
    return since[0] == last[0] and since[1] == SATURATED - 1 and last[1] >= SATURATED
