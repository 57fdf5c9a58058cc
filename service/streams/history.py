"""Reading what a stream holds: states, pages, and what a recovery needs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from service.channels import Namespace
from service.errors import CommandFailed
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams import entries
from service.streams.commands import Commands
from service.streams.entries import RawEntry
from service.streams.keys import Keys
from service.streams.link import Command
from service.streams.lua import EPOCH
from service.streams.position import (
    SATURATED,
    StreamId,
    check_range,
    format_id,
    is_complete,
    parse_id,
    parse_state,
)
from service.tasks import Tasks

#: Seconds that an epoch outlives a stream that does not exist.
EPOCH_TTL = 86_400


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


class History:
    """Reads streams over the command connection."""

    def __init__(self, commands: Commands, keys: Keys, max_bytes: int, metrics: Metrics) -> None:
        self._commands = commands
        self._keys = keys
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._tasks = Tasks()
        self._since_reads: dict[tuple[str, StreamId, int], asyncio.Task[Since]] = {}

    async def aclose(self) -> None:
        """End what is under way."""
        await self._tasks.aclose()

    async def epoch(self, channel: str) -> str:
        """The epoch of the channel's stream; made if there is none.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        epoch: bytes = await self._commands.execute(*self._ensure_epoch(channel, None))
        return epoch.decode()

    async def ensure_epochs(self, wanted: Sequence[tuple[str, str | None]]) -> list[str | None]:
        """The epochs of channels; where there is none, the one given or a new one becomes it.

        None where Redis refused.

        Raises:
            Unavailable: as `Commands.pipeline`.
        """
        commands = [self._ensure_epoch(channel, otherwise) for channel, otherwise in wanted]
        replies = await self._commands.pipeline(commands)
        return [reply.decode() if isinstance(reply, bytes) else None for reply in replies]

    def _ensure_epoch(self, channel: str, otherwise: str | None) -> Command:
        stream, epoch = self._keys.stream(channel), self._keys.epoch(channel)
        return ("EVAL", EPOCH, 2, stream, epoch, otherwise or secrets.token_hex(8), EPOCH_TTL)

    async def epochs(self, channels: list[str]) -> list[str | None]:
        """The epochs there are now, None where there is none or Redis refused to tell.

        Raises:
            Unavailable: as `Commands.pipeline`.
        """
        replies = await self._commands.pipeline([("GET", self._keys.epoch(c)) for c in channels])
        return [reply.decode() if isinstance(reply, bytes) else None for reply in replies]

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
        info, raw = await self._commands.transaction(
            # From the position itself, to see whether it is there still; one more tells of too many.
            [("XINFO", "STREAM", key), ("XRANGE", key, format_id(position), "+", "COUNT", limit + 2)]
        )
        state = parse_state(info)
        if isinstance(raw, CommandFailed):
            raise raw
        check_range(state.last_id)
        present = bool(raw) and parse_id(raw[0][0]) == position
        if present:
            raw = raw[1:]
        if not is_complete(position, state, present=present) or len(raw) > limit:
            return Since(False, [], state.last_id)
        return Since(True, entries.decode_all(raw, namespace, self._max_bytes), state.last_id)

    async def newest(self, channel: str, namespace: Namespace) -> Publication | None:
        """The last entry that can be delivered among the last few.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        self._metrics.history_reads.inc()
        raw = await self._commands.execute("XREVRANGE", self._keys.stream(channel), "+", "-", "COUNT", 4)
        found = entries.decode_all(raw, namespace, self._max_bytes)
        return found[0] if found else None

    async def page(
        self, channel: str, namespace: Namespace, since: StreamId | None, limit: int, *, reverse: bool
    ) -> Page:
        """A page of at most `limit` entries (and the rest of a run that shares one offset).

        Args:
            since: exclusive start; None: from the beginning, or from the end when `reverse`.
            limit: 0: the position only.

        Raises:
            Unavailable, CommandFailed: as `Commands.transaction`.
            ReplyError: 108, ids too large.
        """
        self._metrics.history_reads.inc()
        key = self._keys.stream(channel)
        requests: list[Command] = [("XINFO", "STREAM", key)]
        if limit:
            requests.append(_range(key, since, limit, reverse=reverse))
        replies = await self._commands.transaction(requests)
        state = parse_state(replies[0])
        check_range(state.last_id)
        raw: list[RawEntry] = []
        if limit:
            if isinstance(replies[1], CommandFailed):
                raise replies[1]
            raw = replies[1]
            raw += await self._rest_of_run(key, raw, limit, reverse=reverse)
            if since is not None and raw and not reverse and _same_run(since, parse_id(raw[-1][0])):
                # Nothing but the rest of the run that `since` stands in: go on behind it.
                more = await self._commands.execute(*_range(key, parse_id(raw[-1][0]), limit, reverse=False))
                raw += more + await self._rest_of_run(key, more, limit, reverse=False)
        return Page(entries.decode_all(raw, namespace, self._max_bytes), state.last_id)

    async def _rest_of_run(
        self, key: str, page: list[RawEntry], limit: int, *, reverse: bool
    ) -> list[RawEntry]:
        """A page never ends inside a run of entries that share a saturated offset: what it lacks of one."""
        if len(page) < limit:
            return []
        last = parse_id(page[-1][0])
        ms, seq = last
        if seq < SATURATED:
            return []
        if reverse:
            command, end = "XREVRANGE", b"%d-%d" % (ms, SATURATED)
        else:
            command, end = "XRANGE", b"%d" % ms
        rest: list[RawEntry] = await self._commands.execute(command, key, b"(" + format_id(last), end)
        return rest


def _range(key: str, since: StreamId | None, limit: int, *, reverse: bool) -> Command:
    """The entries after (or before) a position, which is not among them."""
    start = "+" if reverse else "-"
    exclusive = b"(" + format_id(since) if since is not None else start
    return ("XREVRANGE" if reverse else "XRANGE", key, exclusive, "-" if reverse else "+", "COUNT", limit)


def _same_run(since: StreamId, last: StreamId) -> bool:
    """Whether a position that a saturated offset stands for and an entry are of the same run."""
    return since[0] == last[0] and since[1] == SATURATED - 1 and last[1] >= SATURATED
