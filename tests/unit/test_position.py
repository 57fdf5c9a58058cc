"""streams.position: ids and offsets keep their order, and a gap between two positions is never missed."""

from __future__ import annotations

import pytest

from service.errors import CommandFailed, ReplyError
from service.streams.position import (
    ABSENT,
    MAX_MS,
    SATURATED,
    ZERO,
    StreamId,
    StreamState,
    below,
    check_range,
    format_id,
    from_offset,
    is_complete,
    parse_id,
    parse_state,
    to_offset,
)

NOW = 1_700_000_000_000

# Ids and offsets


def test_ids_are_read_and_written_as_redis_does() -> None:
    """parse_id and format_id are each other's reverse."""
    assert parse_id(b"1700000000000-5") == (NOW, 5)
    assert format_id((NOW, 5)) == b"1700000000000-5"


@pytest.mark.parametrize("raw", [b"", b"5", b"x-1", b"1-", b"-"])
def test_what_is_no_id_is_refused(raw: bytes) -> None:
    """parse_id does not guess."""
    with pytest.raises(ValueError, match="invalid literal"):
        parse_id(raw)


@pytest.mark.parametrize(
    ("position", "expected"),
    [((5, 3), (5, 2)), ((5, 1), (5, 0)), ((5, 0), (4, 2**64 - 1)), ((0, 1), (0, 0)), (ZERO, ZERO)],
)
def test_below_is_the_next_smaller_id(position: StreamId, expected: StreamId) -> None:
    """Nothing fits between an id and the one below it."""
    assert below(position) == expected


def test_offsets_keep_the_order_of_ids() -> None:
    """Of two ids the larger never has the smaller offset, whatever their sequence numbers."""
    ids = [
        (0, 1),
        (1, 0),
        (1, 1),
        (1, 4094),
        (1, 4095),
        (1, 4096),
        (1, 2**64 - 1),
        (2, 0),
        (NOW, 0),
        (NOW, 1),
    ]
    offsets = [to_offset(i) for i in ids]
    assert offsets == sorted(offsets)
    assert to_offset(ZERO) == 0


def test_offsets_are_exact_in_javascript() -> None:
    """The largest offset of a stream that is not refused stays below 2^53."""
    assert to_offset((MAX_MS - 1, 2**64 - 1)) == 2**53 - 1


def test_an_offset_stands_for_its_id() -> None:
    """Below saturation an offset is exactly one id."""
    for position in [ZERO, (0, 1), (NOW, 0), (NOW, SATURATED - 1)]:
        assert from_offset(to_offset(position)) == position
        assert from_offset(to_offset(position), reverse=True) == position


@pytest.mark.parametrize("seq", [SATURATED, SATURATED + 1, 2**40])
def test_a_saturated_offset_stands_for_the_start_of_its_run(seq: int) -> None:
    """Going on from it may bring a duplicate, never a loss: all of the run comes after the position."""
    assert from_offset(to_offset((NOW, seq))) == (NOW, SATURATED - 1)
    assert from_offset(to_offset((NOW, seq))) < (NOW, SATURATED)


def test_backwards_a_saturated_offset_stands_for_the_runs_first_id() -> None:
    """What comes before the position is news, so the run is behind it."""
    assert from_offset(to_offset((NOW, 9000)), reverse=True) == (NOW, SATURATED)


def test_ids_that_no_offset_can_hold_are_refused() -> None:
    """From 2^41 ms on a stream is answered 108."""
    check_range((MAX_MS - 1, 2**64 - 1))
    with pytest.raises(ReplyError) as info:
        check_range((MAX_MS, 0))
    assert info.value.code == 108


# States


def test_a_state_is_read_from_redis_7() -> None:
    """All that the rule needs is taken from XINFO STREAM."""
    reply = {
        b"length": 2,
        b"last-generated-id": b"9-1",
        b"first-entry": [b"7-0", [b"data", b"1"]],
        b"entries-added": 3,
        b"max-deleted-entry-id": b"8-0",
    }
    assert parse_state(reply) == StreamState((9, 1), (7, 0), 2, 3, (8, 0))


def test_a_state_is_read_from_redis_6() -> None:
    """Before Redis 7 two facts are missing, and an empty stream has no first entry."""
    reply = {b"length": 0, b"last-generated-id": b"9-1", b"first-entry": None}
    assert parse_state(reply) == StreamState((9, 1), None, 0, None, None)


def test_no_such_key_is_an_absent_stream() -> None:
    """A stream that does not exist is a state like any other; a key of another type is an error."""
    assert parse_state(CommandFailed("ERR no such key")) == ABSENT
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        parse_state(CommandFailed("WRONGTYPE Operation against a key holding the wrong kind of value"))


# The rule


def _state(
    last: int,
    first: int | None = None,
    length: int = 1,
    added: int | None = 1,
    max_deleted: StreamId | None = ZERO,
) -> StreamState:
    return StreamState((last, 0), None if first is None else (first, 0), length, added, max_deleted)


@pytest.mark.parametrize(
    ("case", "position", "state", "present", "complete"),
    [
        ("at the top", 9, _state(9, 1), False, True),
        ("at the top of an emptied stream", 9, _state(9, None, 0, 5, (9, 0)), False, True),
        ("above the top: the past was replaced", 10, _state(9, 1), False, False),
        ("above a stream that is gone", 10, ABSENT, False, False),
        ("its own entry is there", 5, _state(9, 5), True, True),
        ("its own entry is there, first of all", 5, _state(9, 5, 4, 9, (4, 0)), True, True),
        ("trimmed past it", 5, _state(9, 6), False, False),
        ("everything trimmed", 5, _state(9, None, 0), False, False),
        ("deleted on purpose from the middle", 5, _state(9, 3, 5, 6, (5, 0)), False, True),
        ("a later one deleted too", 5, _state(9, 3, 5, 6, (7, 0)), False, True),
        ("never was there: written anew around it", 5, _state(9, 3, 5, 5, ZERO), False, False),
        ("only an earlier one was deleted: written anew", 5, _state(9, 3, 5, 6, (4, 0)), False, False),
        ("in the middle, Redis 6 does not tell", 5, _state(9, 3, 5, None, None), False, True),
        ("the first entry is the position, unseen", 5, _state(9, 5, 5, 6, (5, 0)), False, True),
        ("zero, no stream", 0, ABSENT, False, True),
        ("zero, nothing was ever removed", 0, _state(9, 1, 9, 9, ZERO), False, True),
        ("zero, trimmed", 0, _state(9, 3, 7, 9, ZERO), False, False),
        ("zero, deleted", 0, _state(9, 1, 8, 9, (4, 0)), False, False),
        ("zero, deleted, as many added", 0, _state(9, 1, 8, 8, (4, 0)), False, False),
        ("zero, Redis 6 does not tell", 0, _state(9, 1, 9, None, None), False, False),
    ],
)
def test_is_complete(case: str, position: int, state: StreamState, *, present: bool, complete: bool) -> None:
    """The truth table of the rule: whatever is not proved is not complete."""
    assert is_complete((position, 0), state, present=present) is complete, case


@pytest.mark.parametrize(
    ("case", "state", "added", "complete"),
    [
        ("the only one deleted, and one came", _state(9, 9, 1, 4, (5, 0)), 3, True),
        ("all deleted, and nothing came that is left", _state(9, None, 0, 4, (9, 0)), 3, False),
        ("deleted, and one that came was trimmed", _state(9, 9, 1, 5, (5, 0)), 3, False),
        ("trimmed, not deleted: written anew, it may look the same", _state(9, 9, 1, 4, ZERO), 3, False),
        ("nobody counted", _state(9, 9, 1, 4, (5, 0)), None, False),
        ("Redis 6 does not tell", _state(9, 9, 1, None, None), 3, False),
    ],
)
def test_all_up_to_the_position_are_gone(
    case: str, state: StreamState, added: int | None, *, complete: bool
) -> None:
    """A room whose only message is deleted loses nothing, and nobody in it is told so."""
    assert is_complete((5, 0), state, present=False, added=added) is complete, case
