"""streams.followed: what a read asks, and what its answer proves; a gap is never taken for continuity."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.channels import Namespace
from service.errors import CommandFailed, ReplyError, Unavailable
from service.streams.followed import Advance, Followed, Restart, Unproved
from service.streams.position import ABSENT, MAX_MS, ZERO, StreamId

KEY = b"log:a"


def _followed(cursor: StreamId | None = (5, 0), **flags: bool) -> Followed:
    followed = Followed("log:a", KEY, Namespace(), "epoch")
    followed.cursor = cursor
    for name, value in flags.items():
        setattr(followed, name, value)
    return followed


def _entries(*ids: int) -> list[list[Any]]:
    return [[b"%d-0" % i, [b"data", b"1"]] for i in ids]


def _sized(first: int, size: int, number: int) -> dict[bytes, Any]:
    """The reply to an XREAD: entries of so many bytes."""
    return {KEY: [[b"%d-0" % i, [b"data", b"x" * size]] for i in range(first, first + number)]}


def _read(*ids: int) -> dict[bytes, Any] | None:
    """The reply to an XREAD."""
    return {KEY: _entries(*ids)} if ids else None


def _info(
    last: int, first: int | None, length: int, added: int | None = None, deleted: int = 0
) -> dict[bytes, Any]:
    """The reply to an XINFO STREAM."""
    return {
        b"length": length,
        b"last-generated-id": b"%d-0" % last,
        b"first-entry": _entries(first)[0] if first else None,
        b"last-entry": _entries(last)[0] if length else None,
        b"entries-added": length if added is None else added,
        b"max-deleted-entry-id": b"%d-0" % deleted,
    }


NO_KEY = CommandFailed("ERR no such key")

# What is asked


def test_the_first_read_asks_where_the_stream_stands() -> None:
    """Without a cursor nothing is read but the state."""
    followed = _followed(None)
    assert followed.request(16) == [("XINFO", "STREAM", KEY)]
    assert followed.commands_sent == 1


def test_a_read_begins_just_below_the_cursor() -> None:
    """So that the cursor's own entry comes along."""
    followed = _followed((5, 0))
    assert followed.request(16) == [("XREAD", "COUNT", 8, "STREAMS", KEY, b"4-%d" % (2**64 - 1))]
    assert followed.commands_sent == 1


@pytest.mark.parametrize(("cursor", "flags"), [((5, 0), {"check": True}), (ZERO, {"swept": True})])
def test_a_checked_read_takes_the_state_in_the_same_multi(cursor: StreamId, flags: dict[str, bool]) -> None:
    """State and entries are of one instant; at zero the sweep has no entry of its own to prove anything."""
    followed = _followed(cursor, **flags)
    commands = followed.request(16)
    assert [c[0] for c in commands] == ["MULTI", "XINFO", "XREAD", "EXEC"]
    assert followed.commands_sent == 4


def test_a_swept_channel_needs_no_check() -> None:
    """Its cursor's entry proves as much, at a quarter of the cost."""
    assert len(_followed((5, 0), swept=True).request(16)) == 1


# What the first answer says


def test_following_begins_at_the_last_generated_id() -> None:
    """The last entry comes along; it is no gap."""
    followed = _followed(None)
    followed.request(16)
    outcome = followed.judge(_info(9, 7, 2))
    assert isinstance(outcome, Restart)
    assert not outcome.is_gap
    assert outcome.state.last_id == (9, 0)
    assert outcome.last_entry is not None
    assert outcome.last_entry[0] == b"9-0"


def test_following_a_stream_that_does_not_exist() -> None:
    """It begins at zero."""
    followed = _followed(None)
    followed.request(16)
    assert followed.judge(NO_KEY) == Restart(ABSENT, None, is_gap=False)


def test_an_empty_stream_has_no_last_entry() -> None:
    """Its last generated id still counts."""
    followed = _followed(None)
    followed.request(16)
    outcome = followed.judge(_info(9, None, 0, 5, 9))
    assert isinstance(outcome, Restart)
    assert outcome.last_entry is None
    assert outcome.state.last_id == (9, 0)


@pytest.mark.parametrize("cursor", [None, (5, 0)])
def test_redis_errors_are_raised(cursor: StreamId | None) -> None:
    """A key of another type is not an absent stream."""
    followed = _followed(cursor)
    followed.request(16)
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        followed.judge(CommandFailed("WRONGTYPE no stream"))


def test_errors_inside_a_multi_are_raised() -> None:
    """An EXEC that ran holds errors as values."""
    followed = _followed(check=True)
    followed.request(16)
    wrong = CommandFailed("WRONGTYPE no stream")
    with pytest.raises(CommandFailed):
        followed.judge([wrong, wrong])
    with pytest.raises(CommandFailed):
        followed.judge([_info(9, 5, 2), CommandFailed("NOPERM")])


def test_ids_beyond_offsets_are_refused() -> None:
    """108, at the beginning and later."""
    followed = _followed(None)
    followed.request(16)
    with pytest.raises(ReplyError):
        followed.judge(_info(MAX_MS, MAX_MS, 1))
    followed = _followed((5, 0))
    followed.request(16)
    with pytest.raises(ReplyError):
        followed.judge(_read(5, MAX_MS))


def test_what_came_before_ids_beyond_offsets_is_delivered() -> None:
    """The good entries of a reply are not lost with the one that leaps."""
    followed = _followed((5, 0))
    followed.request(16)
    assert followed.judge(_read(5, 6, MAX_MS)) == Advance(_entries(6), full=False)  # type: ignore[arg-type]


# What an unchecked answer proves


@pytest.mark.parametrize(
    ("cursor", "reply", "expected"),
    [
        ((5, 0), _read(5), Advance([], full=False)),
        ((5, 0), _read(5, 6, 8), Advance(_entries(6, 8), full=False)),  # type: ignore[arg-type]
        ((5, 0), _read(5, 6, 7, 8), Advance(_entries(6, 7, 8), full=True)),  # type: ignore[arg-type]
        ((5, 0), _read(6, 7), Unproved()),
        ((5, 0), _read(), Unproved()),
        (ZERO, _read(), Advance([], full=False)),
        (ZERO, _read(1), Unproved()),
    ],
)
def test_the_cursors_own_entry_proves_continuity(
    cursor: StreamId, reply: object, expected: Advance | Unproved
) -> None:
    """Without it nothing is proved, be the answer empty or not; COUNT entries mean there may be more."""
    followed = _followed(cursor)
    followed.request(4)
    assert followed.judge(reply) == expected


# How much is asked for


def _asked(followed: Followed, *, most: int = 512) -> int:
    """COUNT of the next read."""
    count = followed.request(most)[0][2]
    assert isinstance(count, int)
    return count


def test_a_channel_that_has_more_is_asked_for_ever_more() -> None:
    """Up to a bound; one that has become quiet again is asked for few."""
    followed = _followed()
    counts = []
    for _ in range(4):
        count = _asked(followed)
        counts.append(count)
        followed.judge(_read(*range(5, 5 + count)))
    assert counts == [8, 64, 512, 512]
    assert _asked(followed, most=16) == 16
    for _ in range(8):
        followed.judge(_read(5))
    assert _asked(followed) == 8


def test_large_entries_are_read_few_at_a_time() -> None:
    """As many as the bytes of the last ones allow; and never fewer than brings something new."""
    followed = _followed()
    assert _asked(followed) == 8
    followed.judge(_sized(5, 1_000_000, 8), weigh=True)
    assert (_asked(followed), followed.weight) == (4, 8_000_032)
    followed.judge(_sized(5, 10_000_000, 4), weigh=True)
    assert _asked(followed) == 2
    followed.judge(_sized(5, 10, 2), weigh=True)
    assert _asked(followed) == 16
    assert followed.weight < 100


def test_after_a_lost_read_little_is_asked_for() -> None:
    """It may have been lost because it was large."""
    followed = _followed()
    assert _asked(followed) == 8
    followed.judge(_read(*range(5, 13)))
    assert _asked(followed) == 64
    followed.read_lost()
    assert _asked(followed) == 2


# What a checked answer proves


@pytest.mark.parametrize(
    ("case", "cursor", "info", "read", "advance"),
    [
        ("unchanged", 5, _info(5, 1, 5), _read(5), []),
        ("went on", 5, _info(7, 1, 7), _read(5, 6, 7), [6, 7]),
        ("its entry deleted on purpose", 5, _info(7, 1, 6, 7, 5), _read(6, 7), [6, 7]),
        ("trimmed at the cursor, nothing new", 5, _info(5, None, 0, 5, 5), _read(), []),
        ("trimmed past the cursor", 5, _info(9, 7, 3, 9), _read(7, 8, 9), None),
        ("lower ids", 5, _info(3, 1, 3), _read(), None),
        ("gone", 5, NO_KEY, _read(), None),
        ("written anew, higher ids", 5, _info(9, 8, 2), _read(8, 9), None),
        ("written anew around it", 5, _info(9, 4, 2), _read(9), None),
        ("from zero", 0, _info(2, 1, 2), _read(1, 2), [1, 2]),
        ("from zero, trimmed", 0, _info(3, 2, 2, 3), _read(2, 3), None),
        ("still nothing", 0, NO_KEY, _read(), []),
    ],
)
def test_a_checked_read_decides(
    case: str, cursor: int, info: object, read: object, advance: list[int] | None
) -> None:
    """Either the entries follow on the cursor, or the channel begins anew and it is a gap."""
    followed = _followed((cursor, 0), check=True)
    followed.request(16)
    outcome = followed.judge([info, read])
    if advance is None:
        assert isinstance(outcome, Restart), case
        assert outcome.is_gap
    else:
        assert outcome == Advance(_entries(*advance), full=False), case  # type: ignore[arg-type]


def test_another_epoch_is_a_gap_whatever_the_entries_say() -> None:
    """Another stream may hold the very same ids."""
    followed = _followed(check=True, epoch_changed=True)
    followed.request(16)
    outcome = followed.judge([_info(6, 1, 6), _read(5, 6)])
    assert isinstance(outcome, Restart)
    assert outcome.is_gap


# Flags set while a read is under way


def test_a_check_that_was_asked_for_during_a_read_is_not_forgotten() -> None:
    """The read under way does not prove what was doubted after it had been sent."""
    followed = _followed()
    followed.request(16)
    followed.check = followed.epoch_changed = True
    assert isinstance(followed.judge(_read(5, 6)), Advance)
    followed.read_done()
    assert followed.check
    assert followed.epoch_changed
    followed.cursor = (6, 0)
    assert len(followed.request(16)) == 4
    assert isinstance(followed.judge([_info(6, 1, 6), _read(6)]), Restart)


def test_a_checked_read_settles_the_check() -> None:
    """After it the reads are plain again."""
    followed = _followed(check=True)
    followed.request(16)
    followed.judge([_info(5, 1, 5), _read(5)])
    followed.read_done()
    assert not followed.check
    assert len(followed.request(16)) == 1


def test_read_done_clears_why_the_channel_was_dirty() -> None:
    """Hints and sweeps are of one read; so is the back-off after failures."""
    followed = _followed(hinted=True, swept=True)
    followed.retry = 1.6
    followed.read_done()
    assert (followed.hinted, followed.swept, followed.retry) == (False, False, 0.0)


# Who waits


async def test_a_read_answers_those_who_came_before_it() -> None:
    """One who comes while a read is under way waits for the next."""
    followed = _followed()
    loop = asyncio.get_running_loop()
    early, late = loop.create_future(), loop.create_future()
    followed.waiters.append(early)
    followed.request(16)
    followed.waiters.append(late)
    followed.read_done()
    assert early.done()
    assert not late.done()
    followed.request(16)
    followed.read_done()
    assert late.done()


async def test_those_who_wait_survive_a_lost_read() -> None:
    """A read that never came back is asked again, for all of them."""
    followed = _followed()
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    followed.waiters.append(first)
    followed.request(16)
    followed.waiters.append(second)
    followed.request(16)
    followed.read_done()
    assert first.done()
    assert second.done()


async def test_nobody_waits_for_a_channel_that_is_given_up() -> None:
    """All who wait are told why; one who has gone away is no error."""
    followed = _followed()
    loop = asyncio.get_running_loop()
    asked, waiting, gone = (loop.create_future() for _ in range(3))
    gone.cancel()
    followed.waiters += [asked, gone]
    followed.request(16)
    followed.waiters.append(waiting)
    followed.end()
    for future in (asked, waiting):
        assert isinstance(future.exception(), Unavailable)
    refused = loop.create_future()
    followed.waiters.append(refused)
    followed.end(CommandFailed("WRONGTYPE"))
    assert isinstance(refused.exception(), CommandFailed)
