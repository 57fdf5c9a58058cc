"""streams.position: offsets keep the order of ids, and the rule never takes a loss for completeness."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.streams.position import (
    MAX_MS,
    SATURATED,
    ZERO,
    StreamId,
    StreamState,
    below,
    format_id,
    from_offset,
    is_complete,
    parse_id,
    to_offset,
)

_seqs = st.integers(0, 2**64 - 1) | st.integers(SATURATED - 3, SATURATED + 3) | st.integers(0, 3)
ids = st.tuples(st.integers(0, MAX_MS - 1) | st.integers(0, 3), _seqs)


@given(ids)
def test_ids_round_trip(position: StreamId) -> None:
    """As text, and next to what is below them."""
    assert parse_id(format_id(position)) == position
    assert below(position) < position or position == ZERO


@given(ids, ids)
def test_offsets_are_ordered(one: StreamId, other: StreamId) -> None:
    """The larger id never has the smaller offset, and both fit JavaScript."""
    low, high = sorted((one, other))
    assert 0 <= to_offset(low) <= to_offset(high) < 2**53


@given(ids, ids)
def test_going_on_from_an_offset_loses_nothing(seen: StreamId, later: StreamId) -> None:
    """Whatever came after the entry whose offset a client has comes after the position, too."""
    if later > seen:
        assert later > from_offset(to_offset(seen))
    assert from_offset(to_offset(seen)) <= seen
    assert to_offset(from_offset(to_offset(seen), reverse=True)) == to_offset(seen)


@given(st.integers(0, 2**53 - 1))
def test_any_offset_is_a_position(offset: int) -> None:
    """Clients may name what they like."""
    for reverse in (False, True):
        position = from_offset(offset, reverse=reverse)
        assert to_offset(position) in (offset, offset - 1)


# A small Redis: ids are written upwards, trimmed from the head, deleted, or all of it written anew.


class _Stream:
    """Keeps what Redis 7 keeps of a stream, and remembers what it should be asked for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.entries: list[int] = []
        self.last = self.added = self.max_deleted = 0

    def add(self, step: int) -> None:
        self.last += step
        self.entries.append(self.last)
        self.added += 1

    def trim(self, count: int) -> None:
        del self.entries[:count]  # which Redis does not count as deleted

    def delete(self, at: int) -> None:
        if self.entries:
            self.max_deleted = max(self.max_deleted, self.entries.pop(at % len(self.entries)))

    @property
    def state(self) -> StreamState:
        first = (self.entries[0], 0) if self.entries else None
        return StreamState((self.last, 0), first, len(self.entries), self.added, (self.max_deleted, 0))


_operations = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "trim", "delete", "reader"]), st.integers(1, 4)),
    max_size=25,
)


@given(_operations)
def test_complete_means_that_nothing_was_trimmed(operations: list[tuple[str, int]]) -> None:
    """In one life of a stream an entry that was trimmed before it was read is always noticed."""
    stream, cursor, trimmed, added = _Stream(), 0, 0, 0
    for operation, number in operations:
        if operation == "add":
            stream.add(number)
        elif operation == "trim":
            trimmed = max([trimmed, *stream.entries[:number]])
            stream.trim(number)
        elif operation == "delete":
            stream.delete(number)
        else:
            present = cursor in stream.entries
            complete = is_complete((cursor, 0), stream.state, present=present, added=added)
            if trimmed > cursor and stream.last != cursor:
                assert not complete
            added = stream.added
            if complete:
                cursor = stream.last
            elif not trimmed and not stream.max_deleted:
                raise AssertionError("nothing was ever removed")
            else:
                cursor = stream.last  # told, and on from here


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 40))
def test_a_position_of_another_life_is_never_complete(steps: list[int], position: int) -> None:
    """A stream written anew without deletions holds the position's entry, ends at it, or is refused."""
    stream = _Stream()
    for step in steps:
        stream.add(step)
    present = position in stream.entries
    complete = is_complete((position, 0), stream.state, present=present)
    assert complete == (present or position in (0, stream.last))
