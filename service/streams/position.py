"""Stream ids and client offsets, and the rule that tells whether anything is missing between two.

A stream id is `(ms, seq)`. Clients see `offset = ms << 12 | min(seq, 4095)`, which stays below
2^53 (exact in JavaScript) until 2039. Offsets are ordered, never contiguous.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from service.errors import CommandFailed, not_available
from service.hub.publication import StreamId as StreamId  # declared where the lowest layer needs it

#: The position before the first entry of any stream.
ZERO: StreamId = (0, 0)

#: Bits of an offset that hold the sequence number.
_SEQ_BITS = 12

#: The largest sequence number an offset can hold; all above share it.
SATURATED = (1 << _SEQ_BITS) - 1

#: Streams with ids from here on cannot be given offsets below 2^53 (about the year 2039).
MAX_MS = 1 << 41

_MAX_SEQ = (1 << 64) - 1


def parse_id(raw: bytes) -> StreamId:
    """`b"1700000000000-5"` → `(1700000000000, 5)`.

    Raises:
        ValueError: not an id as Redis writes it.
    """
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq)


def format_id(position: StreamId) -> bytes:
    """The reverse of `parse_id`."""
    return b"%d-%d" % position


def below(position: StreamId) -> StreamId:
    """The largest id less than `position`; `ZERO` has none and stays."""
    ms, seq = position
    if seq:
        return ms, seq - 1
    return (ms - 1, _MAX_SEQ) if ms else ZERO


def to_offset(position: StreamId) -> int:
    """What a client sees of a stream id."""
    ms, seq = position
    return ms << _SEQ_BITS | min(seq, SATURATED)


def from_offset(offset: int, *, reverse: bool = False) -> StreamId:
    """The position that an offset stands for: everything after it is news to the client.

    A saturated offset stands for a run of ids; the position is just before that run, so that a
    client may see an entry of the run twice but never misses one. Going backwards (`reverse`), what
    comes before the position is news, and the position is the run's first id.
    """
    ms, seq = offset >> _SEQ_BITS, offset & SATURATED
    return (ms, SATURATED - 1) if seq == SATURATED and not reverse else (ms, seq)


class StreamState(NamedTuple):
    """What Redis says of a stream (`XINFO STREAM`); a stream that does not exist is `ABSENT`.

    `entries_added` and `max_deleted` are None before Redis 7.
    """

    last_id: StreamId
    first_id: StreamId | None
    length: int
    entries_added: int | None
    max_deleted: StreamId | None


ABSENT = StreamState(ZERO, None, 0, 0, ZERO)


def parse_state(reply: Any) -> StreamState:
    """Read the reply to `XINFO STREAM`.

    Raises:
        CommandFailed: the key holds something else, or the call is not allowed.
    """
    if isinstance(reply, CommandFailed):
        if str(reply).startswith("ERR no such key"):
            return ABSENT
        raise reply
    if not isinstance(reply, dict):
        raise CommandFailed(f"no answer to XINFO: {reply!r}")
    first = reply[b"first-entry"]
    max_deleted = reply.get(b"max-deleted-entry-id")
    return StreamState(
        last_id=parse_id(reply[b"last-generated-id"]),
        first_id=parse_id(first[0]) if first else None,
        length=reply[b"length"],
        entries_added=reply.get(b"entries-added"),
        max_deleted=parse_id(max_deleted) if max_deleted is not None else None,
    )


def check_range(top: StreamId) -> None:
    """Refuse streams whose ids no client offset can hold.

    Raises:
        ReplyError: 108.
    """
    if top[0] >= MAX_MS:
        raise not_available("the stream's ids are too large")


def is_complete(position: StreamId, state: StreamState, *, present: bool, added: int | None = None) -> bool:
    """Whether all that came after `position` can still be read (docs/decisions/0001).

    Args:
        position: the last id that the reader has.
        state: of the stream, read in the same MULTI as the entries.
        present: whether the entry at `position` was seen to be there still.
        added: entries that the stream had ever been given when the reader was at `position`; None: not known.
    """
    if position > state.last_id:
        return False  # the past was replaced: failover, lost tail of the AOF, a new stream
    if position == state.last_id or present:
        return True
    if position == ZERO:
        return state.entries_added == state.length and state.max_deleted == ZERO
    # The entry at the position is gone. XDEL raises max-deleted to at least its id; if that did not happen
    # it was trimmed, or the stream was written anew around it.
    if state.first_id is not None and state.first_id <= position:
        return state.max_deleted is None or state.max_deleted >= position
    # So are all before it. Nothing is missing if as many are there as have been added since.
    if added is None or state.entries_added is None or state.max_deleted is None:
        return False
    return state.max_deleted >= position and state.entries_added - added == state.length
