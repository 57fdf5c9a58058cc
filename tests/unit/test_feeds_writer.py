"""feeds.writer: records into streams, at their pace."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from service.errors import CommandFailed
from service.feeds import writer
from service.feeds.record import Record


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sleeps = 0
        self.suspended_for = 0.0
        monkeypatch.setattr("service.feeds.writer.time.monotonic", lambda: self.now)
        monkeypatch.setattr("service.feeds.writer.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Pass at once; the third time too late, where so wanted."""
        self.sleeps += 1
        self.now += seconds + (self.suspended_for if self.sleeps == 3 else 0)


class Pipeline:
    """Notes what was sent, and when."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        self.sent: list[tuple[float, list[Any]]] = []
        self.answer: Any = b"1-1"

    async def __call__(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """A reply for each."""
        self.sent.append((self.clock.now if self.clock else 0.0, list(commands)))
        return [self.answer] * len(commands)


def records(*times: float) -> Iterator[Record]:
    """One record at each time."""
    return (Record(at, "quotes:A", b"%d" % number) for number, at in enumerate(times))


async def test_the_command_is_a_plain_xadd() -> None:
    """Each record is one XADD of a field `data`, trimmed about to the channel's history."""
    pipeline = Pipeline()
    await writer.write(records(0), pipeline, key_prefix="p:", maxlen=lambda channel: 7)
    assert pipeline.sent[0][1] == [("XADD", "p:quotes:A", "MAXLEN", "~", 7, "*", "data", b"0")]
    await writer.write(records(0), pipeline, maxlen=lambda channel: 0)
    assert pipeline.sent[1][1] == [("XADD", "quotes:A", "*", "data", b"0")]


@pytest.mark.parametrize(("speed", "last"), [(1.0, 3.0), (10.0, 0.3), (0.5, 6.0)])
async def test_spacing_is_kept(monkeypatch: pytest.MonkeyPatch, speed: float, last: float) -> None:
    """The first is written at once, the others at their distance; what is due together goes together."""
    clock = Clock(monkeypatch)
    pipeline = Pipeline(clock)
    written = await writer.write(records(50_000, 51_000, 51_000, 53_000), pipeline, speed=speed)
    assert written == 4
    times = [at - 100.0 for at, _ in pipeline.sent]
    assert times == pytest.approx([0.0, 1 / speed, last])
    assert [len(commands) for _, commands in pipeline.sent] == [1, 2, 1]


async def test_as_fast_as_redis_takes_them() -> None:
    """Without a speed nothing waits, and pipelines are bounded in entries."""
    pipeline = Pipeline()
    seen: list[int] = []
    times = [float(at) * 10_000 for at in range(1200)]
    assert await writer.write(records(*times), pipeline, speed=None, on_batch=seen.append) == 1200
    assert seen == [500, 500, 200]
    assert [command[-1] for _, batch in pipeline.sent for command in batch] == [
        b"%d" % n for n in range(1200)
    ]


async def test_pipelines_are_bounded_in_bytes() -> None:
    """Large payloads make short pipelines."""
    pipeline = Pipeline()
    large = (Record(0, "quotes:A", b"x" * 600_000) for _ in range(4))
    await writer.write(large, pipeline, speed=None)
    assert [len(batch) for _, batch in pipeline.sent] == [2, 2]


async def test_no_flood_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that was suspended for long goes on from there, at its pace."""
    clock = Clock(monkeypatch)
    clock.suspended_for = 3600.0
    pipeline = Pipeline(clock)
    await writer.write(records(*(second * 1000 for second in range(6))), pipeline)
    times = [at - 100.0 for at, _ in pipeline.sent]
    assert times == pytest.approx([0.0, 1.0, 2.0, 3603.0, 3604.0])
    assert [len(batch) for _, batch in pipeline.sent] == [1, 1, 1, 2, 1]


async def test_what_redis_refuses_is_raised() -> None:
    """An error among the replies ends the writing."""
    pipeline = Pipeline()
    pipeline.answer = CommandFailed("OOM command not allowed")
    with pytest.raises(CommandFailed, match="OOM"):
        await writer.write(records(0), pipeline)


async def test_cancelling_ends_an_endless_feed() -> None:
    """A task that writes without end ends when it is cancelled."""
    endless = (Record(at * 1e6, "quotes:A", b"0") for at in itertools.count())
    sent = asyncio.Event()

    async def pipeline(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        sent.set()
        return [b"1-1"] * len(commands)

    task = asyncio.create_task(writer.write(endless, pipeline))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
