"""streams.tail: what Redis appends is handed on in order, once, and a gap is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis

from service.channels import Namespace
from service.errors import CommandFailed, ReplyError, Unavailable
from service.hub.hub import Start
from service.hub.publication import Publication
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams import tail as tail_module
from service.streams.commands import Commands
from service.streams.history import History
from service.streams.keys import Keys
from service.streams.link import Command, Link
from service.streams.position import MAX_MS, StreamId
from service.streams.tail import Tail
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.clock import turns

Name = Callable[[str], str]
LOG = Namespace()


class _Sink:
    """Notes what it is told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.begun: dict[str, Start] = {}
        self.delivered: dict[str, list[int]] = {}
        self.cursors: dict[str, StreamId] = {}
        self.gaps: list[tuple[str, Start]] = []
        self.unflushed = 0
        self.room = asyncio.Event()
        self.room.set()
        self._news = asyncio.Event()

    async def ready(self) -> None:
        await self.room.wait()

    def begin(self, channel: str, start: Start) -> None:
        self.begun[channel] = start

    def deliver(self, channel: str, publications: list[Publication], cursor: StreamId) -> None:
        self.delivered.setdefault(channel, []).extend(
            int(p.json[8 : p.json.index(b",")]) for p in publications
        )
        self.cursors[channel] = cursor
        self.unflushed += 1

    def gap(self, channel: str, start: Start) -> None:
        self.gaps.append((channel, start))
        self._news.set()

    def flush(self) -> None:
        self.unflushed = 0
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for news until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()


class _World:
    def __init__(self, url: str, **settings: Any) -> None:
        values: dict[str, Any] = {"sweep_seconds": 0.2, **settings}
        redis = RedisSettings(url=SecretStr(url), **values)
        self.metrics = Metrics()
        self.commands = Commands(redis, self.metrics)
        self.history = History(self.commands, Keys(""), 1000, self.metrics)
        self.sink = _Sink()
        self.tail = Tail(redis, Keys(""), self.history, self.sink, 1000, self.metrics)
        self.running = [asyncio.create_task(work) for work in (self.commands.run(), self.tail.run())]

    async def end(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await turns()


@pytest_asyncio.fixture
async def start(redis_process: RedisProcess) -> AsyncIterator[Callable[..., Any]]:
    """Makes tails on the worker's Redis."""
    worlds: list[_World] = []

    async def make(**settings: Any) -> _World:
        world = _World(redis_process.url, **settings)
        worlds.append(world)
        await asyncio.wait_for(world.commands.wait_connected(), 10)
        return world

    yield make
    for world in worlds:
        await world.end()


async def _write(redis: Redis, key: str, *numbers: int) -> None:
    pipeline = redis.pipeline(transaction=False)
    for number in numbers:
        pipeline.xadd(key, {"data": str(number)}, id=f"{number}-0")
    await pipeline.execute()


async def test_entries_come_in_order_and_once(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """From the stream's last entry on, also more than one read takes."""
    world, key = await start(sweep_seconds=60), name("log")
    await _write(redis, key, 1, 2)
    await world.tail.follow(key, LOG)
    begun = world.sink.begun[key]
    assert begun.cursor == (2, 0)
    assert begun.newest is not None
    assert begun.newest.id == (2, 0)
    assert begun.reach < (2, 0)
    numbers = list(range(3, 2000))
    for at in range(0, len(numbers), 100):
        await _write(redis, key, *numbers[at : at + 100])
    await world.sink.until(lambda: world.sink.cursors.get(key) == (1999, 0))
    assert world.sink.delivered[key] == numbers
    assert world.sink.unflushed == 0
    assert world.sink.gaps == []


async def test_a_stream_that_does_not_exist_yet(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """Its first entry comes like any other."""
    world, key = await start(), name("log")
    await world.tail.follow(key, LOG)
    assert world.sink.begun[key].cursor == (0, 0)
    await _write(redis, key, 1)
    await world.sink.until(lambda: key in world.sink.delivered)
    assert world.sink.delivered[key] == [1]
    assert world.sink.gaps == []


async def test_bad_entries_are_skipped(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """They stop nothing, and the cursor passes them."""
    world, key = await start(), name("log")
    await world.tail.follow(key, LOG)
    await _write(redis, key, 1)
    await redis.xadd(key, {"data": "{"}, id="2-0")
    await redis.xadd(key, {"data": "1", "_info": '{"a":' + "[" * 300 + "]" * 300 + "}"}, id="3-0")
    await _write(redis, key, 4)
    await world.sink.until(lambda: world.sink.cursors.get(key) == (4, 0))
    assert world.sink.delivered[key] == [1, 4]
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_entries_undeliverable_total", {"reason": "invalid_json"}) == 1


async def test_large_entries_are_read_in_small_portions(
    start: Callable[..., Any], redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that cannot be delivered have piled up: no read brings all of them, other channels go on."""
    world, large, small = await start(sweep_seconds=60), name("log"), name("log")
    counts: list[int] = []
    call = Link.call

    def noted(link: Link, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        counts.extend(int(c[2]) for c in commands if c[0] == "XREAD" and c[4] == large.encode())
        return call(link, commands)

    for key in (large, small):
        await world.tail.follow(key, LOG)
        await _write(redis, key, 1)
        await world.sink.until(lambda: world.sink.cursors.get(key) == (1, 0))  # noqa: B023
    monkeypatch.setattr(Link, "call", noted)
    world.sink.room.clear()
    pipeline = redis.pipeline(transaction=False)
    for number in range(2, 42):
        pipeline.xadd(large, {"data": "x" * 500_000}, id=f"{number}-0")
    await pipeline.execute()
    await _write(redis, large, 42)
    await _write(redis, small, 2)
    world.sink.room.set()
    await world.sink.until(lambda: world.sink.delivered.get(large) == [1, 42])
    assert world.sink.delivered[small] == [1, 2]
    assert max(counts) < 10  # 4 MB hold 8 of them, and a small one
    assert world.sink.gaps == []


@pytest.mark.parametrize("how", ["trimmed", "deleted", "lower", "flushed epoch"])
async def test_gaps_are_told(how: str, start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """Whatever was done to the stream while nobody looked, and on from its last entry."""
    world, key = await start(), name("log")
    await _write(redis, key, 5)
    await world.tail.follow(key, LOG)
    world.sink.room.clear()  # the tail does not read meanwhile
    pipeline = redis.pipeline(transaction=True)
    match how:
        case "trimmed":
            for number in range(6, 20):
                pipeline.xadd(key, {"data": number}, id=f"{number}-0")
            pipeline.xtrim(key, maxlen=2, approximate=False)
        case "deleted":
            pipeline.delete(key)
            for number in (8, 19):
                pipeline.xadd(key, {"data": number}, id=f"{number}-0")
        case "lower":
            pipeline.delete(key)
            pipeline.xadd(key, {"data": 3}, id="3-0")
        case "flushed epoch":
            pipeline.delete(Keys("").epoch(key))
            pipeline.xadd(key, {"data": 6}, id="6-0")
    await pipeline.execute()
    world.sink.room.set()
    await world.sink.until(lambda: bool(world.sink.gaps))
    ((channel, found),) = world.sink.gaps
    top = {"trimmed": 19, "deleted": 19, "lower": 3, "flushed epoch": 6}[how]
    assert channel == key
    assert found.cursor == (top, 0)
    await _write(redis, key, 30)
    await world.sink.until(lambda: world.sink.cursors.get(key) == (30, 0))
    assert world.sink.delivered[key][-1] == 30
    if how == "flushed epoch":
        assert found.epoch != world.sink.begun[key].epoch
    else:
        assert world.sink.delivered[key] == [30]


async def test_sync_brings_all_there_is(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """When it returns everything that had been written is delivered."""
    world, key = await start(), name("log")
    await world.tail.follow(key, LOG)
    for number in range(1, 20):
        await _write(redis, key, number)
        await world.tail.sync(key)
        assert world.sink.delivered[key][-1] == number
    with pytest.raises(Unavailable):
        await world.tail.sync(name("log"))


async def test_what_cannot_be_followed(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """No stream, ids too large: told to who asks, and forgotten; the others go on."""
    world = await start()
    text, large, good = name("log"), name("log"), name("log")
    await redis.set(text, "x")
    await _write(redis, large, MAX_MS)
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await world.tail.follow(text, LOG)
    with pytest.raises(ReplyError) as info:
        await world.tail.follow(large, LOG)
    assert info.value.code == 108
    assert world.sink.begun == {}
    await world.tail.follow(good, LOG)
    await _write(redis, good, 1)
    await world.sink.until(lambda: good in world.sink.delivered)


async def test_a_key_that_becomes_something_else(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """It is tried again, with the others unharmed; when it is a stream again it is a gap."""
    world, key, other = await start(), name("log"), name("log")
    await _write(redis, key, 5)
    await world.tail.follow(key, LOG)
    await world.tail.follow(other, LOG)
    await redis.set(key, "x")
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await world.tail.sync(key)
    await _write(redis, other, 1)
    await world.sink.until(lambda: other in world.sink.delivered)
    await redis.delete(key)
    await _write(redis, key, 2)
    await world.sink.until(lambda: bool(world.sink.gaps))
    assert world.sink.gaps[0][0] == key


async def test_unfollow_is_the_end(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """Nothing of the channel is delivered any more; it can be followed again."""
    world, key, other = await start(), name("log"), name("log")
    await world.tail.follow(key, LOG)
    await world.tail.follow(other, LOG)
    world.tail.unfollow(key)
    world.tail.unfollow(key)
    await _write(redis, key, 1)
    await _write(redis, other, 1)
    await world.sink.until(lambda: other in world.sink.delivered)
    assert key not in world.sink.delivered
    await world.tail.follow(key, LOG)
    assert world.sink.begun[key].cursor == (1, 0)


async def test_a_lost_connection_loses_nothing(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """The tail comes back and reads on from its cursors."""
    world, key = await start(), name("log")
    await world.tail.follow(key, LOG)
    for number in range(1, 6):
        await redis.client_kill_filter(skipme=True, _type="normal")
        await _write(redis, key, number)
        await world.sink.until(lambda number=number: world.sink.cursors.get(key) == (number, 0))
    assert world.sink.delivered[key] == [1, 2, 3, 4, 5]
    assert world.sink.gaps == []


async def test_a_lost_hint_costs_delay_only(
    start: Callable[..., Any], redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep finds what no hint told of."""
    monkeypatch.setattr(tail_module.Tail, "_on_push", lambda self, push: None)
    world, key = await start(sweep_seconds=0.05), name("log")
    await world.tail.follow(key, LOG)
    await _write(redis, key, 1, 2)
    await world.sink.until(lambda: world.sink.cursors.get(key) == (2, 0))
    assert world.sink.delivered[key] == [1, 2]


async def test_it_does_not_read_without_room(start: Callable[..., Any], redis: Redis, name: Name) -> None:
    """Behind in writing it stops reading, and then brings everything."""
    world, key = await start(), name("log")
    await world.tail.follow(key, LOG)
    world.sink.room.clear()
    await _write(redis, key, *range(1, 100))
    waiting = asyncio.create_task(world.tail.sync(key))
    await turns(50)
    assert world.sink.delivered.get(key, []) == []
    assert world.tail.lag() >= 0
    world.sink.room.set()
    await waiting
    assert world.sink.delivered[key] == list(range(1, 100))


async def test_refused_tracking_means_polling(
    start: Callable[..., Any], redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy without RESP3 pushes the channels are read at a pace."""

    async def refused(self: Tail, link: object) -> bool:
        return False

    monkeypatch.setattr(tail_module.Tail, "_track", refused)
    world, key = await start(sweep_seconds=60, poll_interval_ms=5), name("log")
    await world.tail.follow(key, LOG)
    await _write(redis, key, 1, 2)
    await world.sink.until(lambda: world.sink.cursors.get(key) == (2, 0))
    assert world.sink.delivered[key] == [1, 2]
