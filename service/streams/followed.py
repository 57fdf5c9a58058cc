"""What the tail knows of one channel: what to ask Redis next, and what the answer proves."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from service import channels
from service.channels import Namespace
from service.errors import CommandFailed, Unavailable
from service.streams.entries import RawEntry
from service.streams.link import Command, Reply
from service.streams.position import (
    MAX_MS,
    ZERO,
    StreamId,
    StreamState,
    below,
    check_range,
    format_id,
    is_complete,
    parse_id,
    parse_state,
)

#: Bounds of COUNT: entries that one read of a channel asks for. At least two, since the cursor's own
#: entry comes along.
MIN_COUNT, MAX_COUNT = 2, 512

#: Entries asked for where nothing is known of their size, and how many times more where there are more.
FIRST_COUNT, GROWTH = 8, 8

#: Bytes that one read of a channel, and one pipeline, may bring, if entries are as large as the last ones.
BYTES_PER_READ = 4 * 2**20


class Advance(NamedTuple):
    """Continuity is proved; `entries` come next. `full`: there may be more already."""

    entries: list[RawEntry]
    full: bool


class Unproved(NamedTuple):
    """The read does not tell whether anything is missing; read again with the stream's state."""


class Restart(NamedTuple):
    """The channel goes on from the stream's last generated id: its first read, or a gap (`is_gap`)."""

    state: StreamState
    last_entry: RawEntry | None
    is_gap: bool


Outcome = Advance | Unproved | Restart


class Followed:
    """One followed channel. `cursor` is None until the first read has told where the stream stands."""

    __slots__ = (
        "_answering",
        "_checked",
        "_count",
        "added",
        "channel",
        "check",
        "commands_sent",
        "count",
        "cursor",
        "epoch",
        "epoch_changed",
        "hinted",
        "key",
        "label",
        "namespace",
        "refresh_epoch",
        "retry",
        "swept",
        "waiters",
        "weight",
    )

    def __init__(self, channel: str, key: bytes, namespace: Namespace, epoch: str) -> None:
        self.channel = channel
        self.key = key
        self.namespace = namespace
        self.label = channels.label(channel)
        self.epoch = epoch
        #: The id of the last entry handed on.
        self.cursor: StreamId | None = None
        #: Entries that the stream had ever been given when it stood at the cursor; None: Redis 6 does not
        #: tell. Entries that were deleted before they were read may be missing in it: it proves less then.
        self.added: int | None = None
        #: Done when a read that began after they came has brought all there was.
        self.waiters: list[asyncio.Future[None]] = []
        self._answering: list[asyncio.Future[None]] = []
        #: The next read must prove continuity by the stream's state.
        self.check = False
        #: The read under way does so.
        self._checked = False
        #: The sweep saw another epoch: the next read is a gap.
        self.epoch_changed = False
        #: The sweep shall keep the epoch from expiring.
        self.refresh_epoch = False
        #: Why the channel is dirty.
        self.hinted = self.swept = False
        #: Commands in the pipeline under way.
        self.commands_sent = 0
        #: Seconds of the last wait after a failed read.
        self.retry = 0.0
        #: Entries to ask for next.
        self.count = FIRST_COUNT
        # Entries that the read under way asks for.
        self._count = 0
        #: Bytes that the last read brought, if they were many.
        self.weight = 0

    def request(self, most: int) -> list[Command]:
        """The commands of the next read, of `most` entries; it answers for all who wait by now."""
        self._count = count = min(self.count, most)
        self._answering += self.waiters
        self.waiters = []
        key, cursor = self.key, self.cursor
        if cursor is None:
            commands: list[Command] = [("XINFO", "STREAM", key)]
        else:
            # From just below the cursor: the cursor's own entry comes along and proves continuity.
            commands = [("XREAD", "COUNT", count, "STREAMS", key, format_id(below(cursor)))]
            self._checked = self.check or (self.swept and cursor == ZERO)
            if self._checked:
                commands = [("MULTI",), ("XINFO", "STREAM", key), *commands, ("EXEC",)]
        self.commands_sent = len(commands)
        return commands

    def judge(self, reply: Reply, *, weigh: bool = False) -> Outcome:
        """What the last reply to `request` proves.

        Args:
            weigh: the pipeline brought many bytes: see how many of them were this channel's.

        Raises:
            CommandFailed: Redis refused.
            ReplyError: 108, the stream's ids are beyond what offsets can hold.
        """
        if self.cursor is None:
            return self._restart(reply, is_gap=False)
        if isinstance(reply, CommandFailed):
            raise reply
        if self._checked:
            return self._judge_checked(self.cursor, reply, weigh=weigh)
        found = self._entries(reply, weigh=weigh)
        if self.cursor == ZERO:
            return Unproved() if found else Advance([], full=False)
        if found and parse_id(found[0][0]) == self.cursor:
            return Advance(found[1:], full=len(found) == self._count)
        return Unproved()

    def _judge_checked(self, cursor: StreamId, reply: Reply, *, weigh: bool) -> Outcome:
        info, read = reply
        if isinstance(read, CommandFailed):
            raise read
        state = parse_state(info)
        found = self._entries(read, weigh=weigh)
        present = bool(found) and parse_id(found[0][0]) == cursor
        if self.epoch_changed or not is_complete(cursor, state, present=present, added=self.added):
            return self._restart(info, is_gap=True)
        unread, full = found[1:] if present else found, len(found) == self._count
        if not full and state.entries_added is not None:
            self.added = state.entries_added - len(unread)
        return Advance(unread, full)

    def _restart(self, info: Reply, *, is_gap: bool) -> Restart:
        state = parse_state(info)
        check_range(state.last_id)
        last_entry = tuple(info[b"last-entry"]) if state.length else None
        return Restart(state, last_entry, is_gap)

    def _entries(self, reply: Reply, *, weigh: bool) -> list[RawEntry]:
        found: list[RawEntry] = reply[self.key] if reply else []
        self._learn(found, weigh=weigh)
        if found and parse_id(found[-1][0])[0] >= MAX_MS:
            found = [entry for entry in found if parse_id(entry[0])[0] < MAX_MS]
            if len(found) <= 1:  # nothing but the cursor's own
                check_range((MAX_MS, 0))
        return found

    def _learn(self, found: list[RawEntry], *, weigh: bool) -> None:
        """How many entries to ask for next: more while there are more, fewer the larger they are."""
        count = GROWTH * len(found) if len(found) == self._count else self.count // 2
        self.count = min(MAX_COUNT, max(FIRST_COUNT, count))
        self.weight = sum(sum(map(len, fields)) for _, fields in found) if weigh else 0
        if self.weight:
            self.count = max(MIN_COUNT, min(self.count, BYTES_PER_READ * len(found) // self.weight))

    def moved(self, unread: list[RawEntry]) -> StreamId:
        """Stand at the last of what `Advance` brought; returns its id."""
        self.cursor = parse_id(unread[-1][0])
        if self.added is not None:
            self.added += len(unread)
        return self.cursor

    def read_lost(self) -> None:
        """The connection ended before the reply was there: ask for as little as possible next time."""
        self.count = MIN_COUNT

    def read_done(self) -> None:
        """A read has brought all there was: those who wait for it may go on."""
        if self._checked:  # else it was asked for while the read was under way: the next one's
            self.check = self.epoch_changed = False
        self.hinted = self.swept = False
        self.retry = 0.0
        answering, self._answering = self._answering, []
        for future in answering:
            if not future.done():
                future.set_result(None)

    def end(self, why: Exception | None = None) -> None:
        """The channel is followed no more: nobody waits in vain."""
        for future in self._answering + self.waiters:
            if not future.done():
                future.set_exception(why or Unavailable("the channel is followed no more"))
                future.exception()  # retrieved: whoever waited may have gone away
        self._answering, self.waiters = [], []
