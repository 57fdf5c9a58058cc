"""Reading what a stream holds: states, pages, and what a recovery needs."""

from __future__ import annotations

import asyncio
import secrets
from typing import NamedTuple

from service.channels import Namespace
from service.errors import CommandFailed, not_available
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams import entries
from service.streams.commands import Commands
from service.streams.entries import RawEntry
from service.streams.keys import Keys
from service.streams.link import Command
from service.streams.lua import EPOCH
from service.streams.position import (
    MAX_MS,
    SATURATED,
    StreamId,
    format_id,
    is_complete,
    parse_id,
    parse_state,
)

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


def check_range(top: StreamId) -> None:
    """Refuse streams whose ids no client offset can hold.

    Raises:
        ReplyError: 108.
    """
    if top[0] >= MAX_MS:
        raise not_available("the stream's ids are too large")


class History:
    """Reads streams over the command connection."""

    def __init__(self, commands: Commands, keys: Keys, max_bytes: int, metrics: Metrics) -> None:
        self._commands = commands
        self._keys = keys
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._since_reads: dict[tuple[str, StreamId, int], asyncio.Task[Since]] = {}

    async def epoch(self, channel: str, *, otherwise: str | None = None) -> str:
        """The epoch of the channel's stream; where there is none, `otherwise` or a new one becomes it.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        reply = await self._commands.execute(
            "EVAL",
            EPOCH,
            2,
            self._keys.stream(channel),
            self._keys.epoch(channel),
            otherwise or secrets.token_hex(8),
            EPOCH_TTL,
        )
        epoch: str = reply.decode()
        return epoch

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
            task = asyncio.create_task(self._read_since(channel, namespace, position, limit))
            self._since_reads[key] = task
            task.add_done_callback(lambda done: self._since_done(key, done))
        # Shielded: one caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def _since_done(self, key: tuple[str, StreamId, int], task: asyncio.Task[Since]) -> None:
        del self._since_reads[key]
        if not task.cancelled():
            task.exception()  # retrieved: all who asked may have gone away

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
            exclusive = b"(" + format_id(since) if since is not None else None
            if reverse:
                requests.append(("XREVRANGE", key, exclusive or "+", "-", "COUNT", limit))
            else:
                requests.append(("XRANGE", key, exclusive or "-", "+", "COUNT", limit))
        replies = await self._commands.transaction(requests)
        state = parse_state(replies[0])
        check_range(state.last_id)
        if not limit:
            return Page([], state.last_id)
        raw = replies[1]
        if isinstance(raw, CommandFailed):
            raise raw
        if raw and len(raw) == limit:
            raw += await self._rest_of_run(key, parse_id(raw[-1][0]), reverse=reverse)
        return Page(entries.decode_all(raw, namespace, self._max_bytes), state.last_id)

    async def _rest_of_run(self, key: str, last: StreamId, *, reverse: bool) -> list[RawEntry]:
        """A page never ends inside a run of entries that share a saturated offset."""
        ms, seq = last
        if seq < SATURATED or (reverse and seq == SATURATED):
            return []
        if reverse:
            reply = await self._commands.execute(
                "XREVRANGE", key, b"(%d-%d" % last, b"%d-%d" % (ms, SATURATED)
            )
        else:
            reply = await self._commands.execute("XRANGE", key, b"(%d-%d" % last, b"%d" % ms)
        rest: list[RawEntry] = reply
        return rest
