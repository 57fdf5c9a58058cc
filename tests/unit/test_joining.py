"""session.joining: what a new subscription is given, from memory or by reading, without gap or duplicate."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from service.channels import Mode, Namespace
from service.errors import Unavailable
from service.hub.hub import Channel
from service.hub.publication import Publication
from service.hub.window import Window, WindowBudget
from service.session.joining import MAX_ATTEMPTS, Bounds, Found, Joined, Need, Position, Wish, attempt, join
from service.streams.history import History, Since
from service.streams.position import to_offset
from tests.unit.fakes.fanout import EPOCH, HubWorld, publication
from tests.unit.fakes.session import FakeHistory

WIDE = Bounds(1000, 10**6)


def _channel(
    *numbers: int, start: int = 5, cursor: int = 0, mode: Mode = "log", snapshot: bool = False
) -> Channel:
    """A channel whose window holds these publications after `start`."""
    window = Window(WindowBudget(10**6), 100, (start, 0))
    channel = Channel("log:a", Namespace(mode=mode, snapshot=snapshot), window)
    window.extend([publication(n) for n in numbers])
    channel.cursor = (cursor or max(numbers, default=start), 0)
    channel.epoch = EPOCH
    return channel


def _at(number: int, epoch: str = EPOCH) -> Position:
    return Position(to_offset((number, 0)), epoch)


def _since(*numbers: int, top: int, complete: bool = True) -> Since:
    return Since(complete, [publication(n) for n in numbers], (top, 0))


def _numbers(outcome: Joined | Need) -> list[int]:
    assert isinstance(outcome, Joined)
    return [orjson.loads(p)["offset"] >> 12 for p in outcome.publications]


# No recovery


def test_without_a_position_it_begins_at_the_cursor() -> None:
    """Nothing comes along."""
    expected = Joined(EPOCH, to_offset((9, 0)), [], None)
    assert attempt(_channel(7, 9), None, WIDE, Found()) == expected


@pytest.mark.parametrize("mode", ["log", "latest"])
def test_a_snapshot_is_the_newest_entry_and_marked(mode: Mode) -> None:
    """The current value, told apart from news."""
    outcome = attempt(_channel(7, 9, mode=mode, snapshot=True), None, WIDE, Found())
    assert _numbers(outcome) == [9]
    assert isinstance(outcome, Joined)
    assert orjson.loads(outcome.publications[0])["tags"] == {"snapshot": "true"}
    assert outcome.recovered is None


def test_a_snapshot_of_an_empty_channel() -> None:
    """There is none, and Redis need not be asked."""
    outcome = attempt(_channel(start=0, snapshot=True), None, WIDE, Found())
    assert outcome == Joined(EPOCH, 0, [], None)


def test_a_snapshot_that_memory_lacks_is_read() -> None:
    """Once: a stream whose entries cannot be delivered has no snapshot."""
    channel = _channel(start=5, snapshot=True)
    assert attempt(channel, None, WIDE, Found()) is Need.NEWEST
    assert _numbers(attempt(channel, None, WIDE, Found(newest_read=True, newest=publication(4)))) == [4]
    assert _numbers(attempt(channel, None, WIDE, Found(newest_read=True))) == []


def test_a_snapshot_that_is_ahead_of_the_tail() -> None:
    """The tail will bring it: it must not come twice."""
    channel = _channel(start=5, snapshot=True)
    ahead = Found(newest_read=True, newest=publication(6))
    assert attempt(channel, None, WIDE, ahead) is Need.SYNC
    assert _numbers(attempt(channel, None, WIDE, ahead._replace(synced=True))) == []


# Recovery of a log, from memory


@pytest.mark.parametrize(("position", "expected"), [(5, [7, 8, 9]), (7, [8, 9]), (8, [9]), (9, [])])
def test_a_position_that_the_window_has_seen(position: int, expected: list[int]) -> None:
    """What came after it, from memory; the offset is the one that was asked for."""
    outcome = attempt(_channel(7, 8, 9), _at(position), WIDE, Found())
    assert _numbers(outcome) == expected
    assert isinstance(outcome, Joined)
    assert outcome.recovered is True
    assert outcome.offset == to_offset((position, 0))


@pytest.mark.parametrize("position", [0, 4, 6])
def test_a_position_that_the_window_has_not_seen(position: int) -> None:
    """Also one within its reach: it may be of an earlier life of the stream."""
    assert attempt(_channel(7, 8, 9), _at(position), WIDE, Found()) is Need.SINCE


def test_the_cursor_is_known_even_without_a_window() -> None:
    """Whoever has everything needs nothing."""
    channel = _channel(start=5, cursor=9)
    channel.window.clear((9, 0))
    assert _numbers(attempt(channel, _at(9), WIDE, Found())) == []


def test_another_epoch_is_not_recovered() -> None:
    """The top is told, nothing comes along."""
    outcome = attempt(_channel(7, 9), _at(7, "other"), WIDE, Found())
    assert outcome == Joined(EPOCH, to_offset((9, 0)), [], recovered=False)


def test_a_position_ahead_of_the_tail() -> None:
    """It was on a node that is ahead; still so after reading, its past was replaced."""
    channel = _channel(7, 9)
    assert attempt(channel, _at(12), WIDE, Found()) is Need.SYNC
    assert attempt(channel, _at(12), WIDE, Found(synced=True)) == Joined(
        EPOCH, to_offset((9, 0)), [], recovered=False
    )


@pytest.mark.parametrize(
    ("bounds", "recovered"),
    [(Bounds(3, 10**6), True), (Bounds(2, 10**6), False), (Bounds(9, 10), False)],
)
def test_a_recovery_is_bounded(bounds: Bounds, *, recovered: bool) -> None:
    """In entries and in bytes; beyond, the client is told rather than flooded."""
    outcome = attempt(_channel(7, 8, 9), _at(5), bounds, Found())
    assert isinstance(outcome, Joined)
    assert outcome.recovered is recovered
    assert len(outcome.publications) == (3 if recovered else 0)


# Recovery of a log, after reading


@pytest.mark.parametrize(
    ("case", "since", "expected"),
    [
        ("as far as the cursor", _since(6, 7, 8, 9, top=9), [6, 7, 8, 9]),
        ("Redis is ahead", _since(6, 7, 8, 9, 10, 11, top=11), [6, 7, 8, 9]),
        ("the cursor has moved on", _since(6, 7, top=7), [6, 7, 8, 9]),
        ("undeliverable ones in between", _since(7, top=8), [7, 9]),
    ],
)
def test_what_was_read_ends_at_the_cursor(case: str, since: Since, expected: list[int]) -> None:
    """What is beyond comes by the tail, what is missing from the window."""
    assert _numbers(attempt(_channel(7, 8, 9), _at(4), WIDE, Found(since=since))) == expected, case


def test_what_was_read_is_too_old() -> None:
    """More came meanwhile than the window holds: read again."""
    channel = _channel(8, 9, start=7)
    assert attempt(channel, _at(4), WIDE, Found(since=_since(5, 6, top=6))) is Need.SINCE


def test_a_gap_that_redis_found() -> None:
    """Not complete is not recovered."""
    outcome = attempt(_channel(7, 9), _at(4), WIDE, Found(since=_since(top=9, complete=False)))
    assert isinstance(outcome, Joined)
    assert outcome.recovered is False


# Recovery in mode latest


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (_at(5), [9]),
        (_at(8), [9]),
        (_at(9), []),
        (_at(0), [9]),
        (_at(3, "other"), [9]),
        (_at(12, "other"), [9]),
    ],
)
def test_latest_recovers_with_at_most_the_newest(position: Position, expected: list[int]) -> None:
    """Always recovered; and nothing that the client has seen."""
    outcome = attempt(_channel(7, 9, mode="latest"), position, WIDE, Found())
    assert _numbers(outcome) == expected
    assert isinstance(outcome, Joined)
    assert outcome.recovered is True
    assert outcome.offset == to_offset((9, 0))


def test_latest_ahead_of_the_tail() -> None:
    """The tail catches up first, else older would follow newer; still ahead, the past was replaced."""
    channel = _channel(7, 9, mode="latest")
    assert attempt(channel, _at(12), WIDE, Found()) is Need.SYNC
    assert _numbers(attempt(channel, _at(12), WIDE, Found(synced=True))) == [9]


def test_latest_reads_the_newest_where_memory_lacks_it() -> None:
    """As a snapshot is read, but it is no snapshot."""
    channel = _channel(start=5, mode="latest")
    assert attempt(channel, _at(2), WIDE, Found()) is Need.NEWEST
    outcome = attempt(channel, _at(2), WIDE, Found(newest_read=True, newest=publication(4)))
    assert _numbers(outcome) == [4]
    assert isinstance(outcome, Joined)
    assert b"snapshot" not in outcome.publications[0]


# Reading


async def _join(
    channel: Channel, position: Position | None, world: HubWorld, history: FakeHistory, bounds: Bounds = WIDE
) -> Joined:
    (joined,) = await join(world.hub, cast(History, history), [Wish(channel, position)], bounds)
    return joined


async def test_join_reads_what_is_needed() -> None:
    """Nothing where memory is enough, else once."""
    world, history = HubWorld(), FakeHistory()
    await _join(_channel(7, 9), _at(7), world, history)
    assert history.calls == []
    history.since_answer = _since(3, 4, 5, 7, 9, top=9)
    assert _numbers(await _join(_channel(7, 9), _at(2), world, history)) == [3, 4, 5, 7, 9]
    assert history.calls == [("since", "log:a", (2, 0), 1000)]


async def test_join_reads_again_when_it_must() -> None:
    """After a sync the position may be known, or the newest another one."""
    world, history = HubWorld(), FakeHistory()
    channel = _channel(7, 9)

    def catch_up() -> None:
        channel.window.extend([publication(12), publication(13)])
        channel.cursor = (13, 0)

    world.feed.on_sync = catch_up
    assert _numbers(await _join(channel, _at(12), world, history)) == [13]
    assert world.feed.synced == ["log:a"]


async def test_join_reads_the_newest_again_after_a_sync() -> None:
    """What was read before the tail caught up is not what is newest after it."""
    world, history = HubWorld(), FakeHistory()
    channel = _channel(start=5, snapshot=True)
    history.newest_answer = publication(6)

    def catch_up() -> None:
        channel.cursor = (8, 0)
        channel.window.clear((8, 0))
        history.newest_answer = publication(8)

    world.feed.on_sync = catch_up
    assert _numbers(await _join(channel, None, world, history)) == [8]


async def test_join_gives_up_when_entries_come_too_fast() -> None:
    """The client is told to try again; it does not wait for ever."""
    world = HubWorld()
    channel = _channel(start=5)

    class _Flood(FakeHistory):
        async def since(self, *args: Any) -> Since:
            found = await super().since(*args)
            channel.cursor = (channel.cursor[0] + 5, 0)
            channel.window.clear(channel.cursor)
            return found

    history = _Flood()
    history.since_answer = _since(top=5)
    with pytest.raises(Unavailable):
        await _join(channel, _at(2), world, history)
    assert len(history.calls) == MAX_ATTEMPTS


def test_a_position_is_decoded() -> None:
    """A saturated offset is the start of its run."""
    assert Position(to_offset((7, 5000)), EPOCH).id == (7, 4094)
    assert isinstance(publication(1), Publication)
