"""streams.sweep: every channel is looked at once in a period, and its epoch compared."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from service.channels import Namespace
from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams import sweep as sweep_module
from service.streams.followed import Followed
from service.streams.history import EPOCH_TTL, History
from service.streams.position import ZERO, StreamId
from service.streams.sweep import Sweep
from tests.unit.fakes.clock import LoopTime, virtual_time


@pytest.fixture(autouse=True)
def _loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "time", LoopTime)
    monkeypatch.setattr("service.streams.quiet.time", LoopTime)


class _History:
    """Epochs as they are in Redis."""

    def __init__(self, epochs: dict[str, str | None]) -> None:
        self.there = epochs
        self.made: list[tuple[str, str | None]] = []
        self.asked: list[float] = []
        self.failure: Exception | None = None

    async def epochs(self, channels: list[str]) -> list[str | None]:
        self.asked.append(asyncio.get_running_loop().time())
        if isinstance(self.failure, Unavailable):
            raise self.failure
        return [self.there.get(channel) for channel in channels]

    async def ensure_epochs(self, wanted: list[tuple[str, str | None]]) -> list[str | None]:
        if isinstance(self.failure, CommandFailed):
            return [None for _ in wanted]
        if self.failure is not None:
            raise self.failure
        self.made += wanted
        for channel, otherwise in wanted:
            self.there[channel] = self.there.get(channel) or otherwise or "new"
        return [self.there[channel] for channel, _ in wanted]


class _World:
    def __init__(self, count: int, *, tracking: bool = True, cursor: StreamId | None = (5, 0)) -> None:
        names = [f"log:{i}" for i in range(count)]
        self.followed = {n.encode(): Followed(n, n.encode(), Namespace(), "epoch") for n in names}
        for each in self.followed.values():
            each.cursor = cursor
        self.history = _History(dict.fromkeys(names, "epoch"))
        self.marks: list[tuple[float, Followed]] = []
        self.metrics = Metrics()
        self.sweep = Sweep(
            RedisSettings(sweep_seconds=5.0, poll_interval_ms=50),
            cast(History, self.history),
            self._mark,
            self.metrics,
            tracking=tracking,
        )

    def _mark(self, followed: Followed) -> None:
        self.marks.append((asyncio.get_running_loop().time(), followed))

    @property
    def first(self) -> Followed:
        return next(iter(self.followed.values()))

    async def run(self, seconds: float) -> None:
        running = asyncio.create_task(self.sweep.run(self.followed))
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@virtual_time
async def test_every_channel_once_in_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """In slices spread over it, each marked as swept."""
    monkeypatch.setattr(sweep_module, "SLICE", 10)
    world = _World(35)
    await world.run(5.1)
    assert len(world.marks) == 35
    assert {id(f) for _, f in world.marks} == {id(f) for f in world.followed.values()}
    assert all(f.swept for _, f in world.marks)
    times = sorted({at for at, _ in world.marks})
    assert len(times) == 4
    assert times[-1] - times[0] == pytest.approx(3.75)


@virtual_time
async def test_the_epoch_of_a_stream_to_come_is_kept_alive() -> None:
    """Now and then; that of a stream that exists needs nothing."""
    for cursor, wanted in ((ZERO, [("log:0", "epoch")]), ((5, 0), [])):
        world = _World(1, cursor=cursor)
        await world.run(EPOCH_TTL / 2 - 20)
        assert world.history.made == wanted
        assert not world.first.refresh_epoch


@virtual_time
async def test_without_tracking_it_polls() -> None:
    """At the pace of polling; epochs are still looked at once in a sweep."""
    world = _World(3, tracking=False)
    await world.run(5.02)
    assert 3 * 95 <= len(world.marks) <= 3 * 101
    assert not any(f.swept for _, f in world.marks)
    assert len(world.history.asked) <= 2


@virtual_time
async def test_another_epoch_is_a_gap() -> None:
    """The channel's next read is checked, and knows the new epoch."""
    world = _World(2)
    world.history.there["log:0"] = "other"
    await world.run(5.1)
    changed, same = world.followed.values()
    assert changed.epoch == "other"
    assert changed.check
    assert changed.epoch_changed
    assert not same.check
    assert [f for _, f in world.marks].count(changed) == 2


@virtual_time
async def test_a_lost_epoch_is_a_gap() -> None:
    """A flush takes it with the stream: there is a new one."""
    world = _World(1)
    world.history.there["log:0"] = None
    await world.sweep.check_epochs([world.first])
    assert world.first.epoch == "new"
    assert world.first.epoch_changed


@virtual_time
async def test_an_epoch_that_expired_before_the_first_entry_is_written_again() -> None:
    """Nothing was read, so nothing was lost: it is no gap."""
    world = _World(1, cursor=ZERO)
    world.history.there["log:0"] = None
    await world.sweep.check_epochs([world.first])
    assert world.history.made == [("log:0", "epoch")]
    assert world.first.epoch == "epoch"
    assert not world.first.epoch_changed


@virtual_time
async def test_an_epoch_is_kept_from_expiring() -> None:
    """Once, after the first entry."""
    world = _World(1)
    world.first.refresh_epoch = True
    await world.sweep.check_epochs([world.first])
    await world.sweep.check_epochs([world.first])
    assert world.history.made == [("log:0", None)]
    assert not world.first.refresh_epoch
    assert not world.first.check


@virtual_time
async def test_a_channel_that_has_not_begun_is_left_alone() -> None:
    """Its first read tells everything."""
    world = _World(1, cursor=None)
    world.history.there["log:0"] = "other"
    await world.sweep.check_epochs([world.first])
    assert world.history.asked == []
    assert world.first.epoch == "epoch"


@virtual_time
async def test_failures_end_nothing() -> None:
    """The next sweep looks again."""
    world = _World(1)
    world.history.there["log:0"] = "other"
    world.history.failure = Unavailable("gone")
    await world.run(10.2)
    assert len(world.marks) == 2
    assert len(world.history.asked) == 2
    world.history.failure = CommandFailed("OOM")
    await world.sweep.check_epochs([world.first])
    assert not world.first.check
    world.history.failure = None
    await world.sweep.check_epochs([world.first])
    assert world.first.epoch_changed


@pytest.mark.parametrize(("hints", "empty", "warns"), [(200, 150, True), (200, 90, False), (50, 50, False)])
def test_a_small_tracking_table_is_noticed(
    hints: int, empty: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Many hints for nothing: the setting is named, once in a while."""

    @virtual_time
    async def run() -> None:
        world = _World(1)
        running = asyncio.create_task(world.sweep.run(world.followed))
        for _ in range(3):
            for i in range(hints):
                world.sweep.count_hint(empty=i < empty)
            await asyncio.sleep(5.01)
        running.cancel()
        counted: Any = world.metrics.registry.get_sample_value("streamgate_tail_empty_reads_total")
        assert counted in (2 * empty, 3 * empty)

    with caplog.at_level(logging.WARNING):
        run()
    assert caplog.text.count("tracking-table-max-keys") == warns
