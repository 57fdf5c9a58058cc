"""streams.history: pages, recoveries and epochs, as the real Redis answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from service.channels import Namespace
from service.errors import CommandFailed, ReplyError
from service.hub.publication import Publication
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.history import EPOCH_TTL, History, Page, Since
from service.streams.keys import Keys
from service.streams.link import Argument, Reply
from service.streams.position import MAX_MS, SATURATED, ZERO, from_offset

Name = Callable[[str], str]
LOG = Namespace()


@pytest.fixture
def history(commands: Commands) -> History:
    return History(commands, Keys(""), 1000, Metrics())


async def _write(redis: Redis, key: str, *ids: int | str) -> None:
    pipeline = redis.pipeline(transaction=False)
    for each in ids:
        pipeline.xadd(key, {"data": "1"}, id=each if isinstance(each, str) else f"{each}-0")
    await pipeline.execute()


def _ids(publications: list[Publication]) -> list[int]:
    return [p.id[0] for p in publications]


# Recovery


async def test_since(history: History, redis: Redis, name: Name) -> None:
    """All that came after a position, and where the stream stands."""
    key = name("log")
    await _write(redis, key, 1, 2, 3, 4)
    found = await history.since(key, LOG, (2, 0), 10)
    assert (found.complete, _ids(found.publications), found.top) == (True, [3, 4], (4, 0))
    assert _ids((await history.since(key, LOG, (0, 0), 10)).publications) == [1, 2, 3, 4]
    assert await history.since(key, LOG, (4, 0), 10) == Since(True, [], (4, 0))


@pytest.mark.parametrize(("limit", "complete"), [(3, True), (2, False)])
async def test_since_is_bounded(
    limit: int, complete: bool, history: History, redis: Redis, name: Name
) -> None:
    """More than was asked for is not complete, be the position there or not."""
    key = name("log")
    await _write(redis, key, 1, 2, 3, 4)
    assert (await history.since(key, LOG, (1, 0), limit)).complete is complete
    await redis.xdel(key, "1-0")
    await _write(redis, key, 5)
    await redis.xdel(key, "2-0")
    # 3, 4, 5 after the deleted 2; the head is gone as well, so only a position above it can be proved
    assert (await history.since(key, LOG, (3, 0), limit)).complete


async def test_a_trimmed_position_is_not_complete(history: History, redis: Redis, name: Name) -> None:
    """Nothing comes along; the top is told."""
    key = name("log")
    await _write(redis, key, *range(1, 11))
    await redis.xtrim(key, maxlen=3, approximate=False)
    assert await history.since(key, LOG, (5, 0), 10) == Since(False, [], (10, 0))
    assert _ids((await history.since(key, LOG, (8, 0), 10)).publications) == [9, 10]
    assert not (await history.since(key, LOG, (0, 0), 10)).complete


async def test_a_position_deleted_from_the_middle(history: History, redis: Redis, name: Name) -> None:
    """Whoever deletes an entry does so on purpose."""
    key = name("log")
    await _write(redis, key, 1, 2, 3, 4)
    await redis.xdel(key, "2-0")
    found = await history.since(key, LOG, (2, 0), 10)
    assert (found.complete, _ids(found.publications)) == (True, [3, 4])


async def test_a_stream_written_anew(history: History, redis: Redis, name: Name) -> None:
    """Lower ids, higher ids, or around the position: none is taken for the old stream."""
    key = name("log")
    for new in ([1, 2], [8, 9], [4, 6, 9]):
        await redis.delete(key)
        await _write(redis, key, *new)
        assert not (await history.since(key, LOG, (5, 0), 10)).complete
    await redis.delete(key)
    assert not (await history.since(key, LOG, (5, 0), 10)).complete
    assert await history.since(key, LOG, (0, 0), 10) == Since(True, [], (0, 0))


async def test_equal_recoveries_share_one_read(history: History, redis: Redis, name: Name) -> None:
    """A reconnect storm costs one; one who goes away takes nothing from the others."""
    key = name("log")
    await _write(redis, key, 1, 2)
    before = history._metrics.registry.get_sample_value("streamgate_history_reads_total") or 0
    asking = [asyncio.create_task(history.since(key, LOG, (1, 0), 10)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking[1:])
    assert all(_ids(each.publications) == [2] for each in found)
    assert history._metrics.registry.get_sample_value("streamgate_history_reads_total") == before + 1
    await _write(redis, key, 3)
    assert _ids((await history.since(key, LOG, (1, 0), 10)).publications) == [2, 3]


async def test_a_key_that_is_no_stream(history: History, redis: Redis, name: Name) -> None:
    """The error is Redis' own."""
    key = name("log")
    await redis.set(key, "x")
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await history.since(key, LOG, (0, 0), 10)
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await history.page(key, LOG, None, 10, reverse=False)
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await history.newest(key, LOG)


async def test_ids_beyond_offsets(history: History, redis: Redis, name: Name) -> None:
    """108."""
    key = name("log")
    await _write(redis, key, MAX_MS)
    for call in (history.since(key, LOG, (0, 0), 10), history.page(key, LOG, None, 10, reverse=False)):
        with pytest.raises(ReplyError) as info:
            await call
        assert info.value.code == 108


# The newest


async def test_newest_passes_over_the_undeliverable(history: History, redis: Redis, name: Name) -> None:
    """One of the last few; none where there is none."""
    key = name("log")
    assert await history.newest(key, LOG) is None
    await _write(redis, key, 1, 2)
    await redis.xadd(key, {"data": "{"}, id="3-0")
    newest = await history.newest(key, LOG)
    assert newest is not None
    assert newest.id == (2, 0)


# Pages


async def _page(
    history: History, key: str, since: tuple[int, int] | None, limit: int, *, reverse: bool = False
) -> list[int]:
    return _ids((await history.page(key, LOG, since, limit, reverse=reverse)).publications)


async def test_pages(history: History, redis: Redis, name: Name) -> None:
    """Forwards and backwards, from the end or from a position, which is not among them."""
    key = name("log")
    assert await _page(history, key, None, 10) == []
    await _write(redis, key, *range(1, 8))
    assert await _page(history, key, None, 3) == [1, 2, 3]
    assert await _page(history, key, (3, 0), 3) == [4, 5, 6]
    assert await _page(history, key, (6, 0), 3) == [7]
    assert await _page(history, key, None, 3, reverse=True) == [7, 6, 5]
    assert await _page(history, key, (5, 0), 10, reverse=True) == [4, 3, 2, 1]
    page = await history.page(key, LOG, None, 0, reverse=False)
    assert (page.publications, page.top) == ([], (7, 0))


async def test_nothing_comes_before_the_beginning(history: History, redis: Redis, name: Name) -> None:
    """Nor is it an error to ask for it."""
    key = name("log")
    await _write(redis, key, 1, 2)
    assert await history.page(key, LOG, ZERO, 10, reverse=True) == Page([], (2, 0))


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_is_bounded_in_bytes(
    reverse: bool, commands: Commands, redis: Redis, name: Name
) -> None:
    """Beyond, it ends early, and what Redis is asked for is not much more; paging on reaches everything."""
    history = History(commands, Keys(""), 1000, Metrics(), page_bytes=5000)
    key = name("log")
    for number in range(1, 201):
        await redis.xadd(key, {"data": f'"{"x" * (number % 7) * 100}"'}, id=f"{number}-0")
    seen: list[int] = []
    sizes: list[int] = []
    since = None
    while page := (await history.page(key, LOG, since, 1000, reverse=reverse)).publications:
        assert sum(len(p.json) for p in page) <= 5000
        sizes.append(len(page))
        seen += _ids(page)
        since = page[-1].id
    assert seen == list(range(200, 0, -1) if reverse else range(1, 201))
    assert min(sizes[:-1]) > 5


async def test_one_publication_is_always_a_page(commands: Commands, redis: Redis, name: Name) -> None:
    """However large: else a client would never get past it."""
    history = History(commands, Keys(""), 1000, Metrics(), page_bytes=100)
    key = name("log")
    for number in (1, 2):
        await redis.xadd(key, {"data": f'"{"x" * 500}"'}, id=f"{number}-0")
    assert await _page(history, key, None, 10) == [1]
    assert await _page(history, key, (1, 0), 10) == [2]


async def test_what_cannot_be_delivered_takes_no_room(history: History, redis: Redis, name: Name) -> None:
    """A page goes on behind it, and so does a recovery."""
    key = name("log")
    await _write(redis, key, 1)
    for number in range(2, 40):
        await redis.xadd(key, {"data": "x" * 20_000}, id=f"{number}-0")
    await _write(redis, key, 40)
    assert await _page(history, key, None, 100) == [1, 40]
    found = await history.since(key, LOG, (1, 0), 100)
    assert (found.complete, _ids(found.publications)) == (True, [40])


async def test_recoveries_are_bounded_in_bytes(commands: Commands, redis: Redis, name: Name) -> None:
    """More than that is not complete, and is not read either."""
    history = History(commands, Keys(""), 1000, Metrics(), page_bytes=5000)
    key = name("log")
    for number in range(1, 101):
        await redis.xadd(key, {"data": f'"{"x" * 400}"'}, id=f"{number}-0")
    assert await history.since(key, LOG, (50, 0), 1000) == Since(False, [], (100, 0))
    assert _ids((await history.since(key, LOG, (90, 0), 1000)).publications) == list(range(91, 101))


async def test_trimmed_while_it_is_read(
    history: History, redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery is not complete then, and a page ends before the hole."""
    key = name("log")
    execute = Commands.execute

    async def trimmed_before(self: Commands, *command: Argument) -> Reply:
        await redis.xtrim(key, maxlen=10, approximate=False)
        return await execute(self, *command)

    monkeypatch.setattr(Commands, "execute", trimmed_before)
    await _write(redis, key, *range(1, 101))
    assert await history.since(key, LOG, (1, 0), 1000) == Since(False, [], (100, 0))
    await redis.delete(key)
    await _write(redis, key, *range(1, 101))
    assert await _page(history, key, None, 1000) == list(range(1, 9))


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
@pytest.mark.parametrize("reverse", [False, True])
async def test_paging_by_offsets_reaches_everything(
    limit: int, reverse: bool, history: History, redis: Redis, name: Name
) -> None:
    """A run of ids that share a saturated offset is neither cut nor a circle."""
    key = name("log")
    ids = [(6, 0), *((7, SATURATED - 2 + i) for i in range(12)), (8, 0), (8, 1), (9, SATURATED + 5), (10, 0)]
    await _write(redis, key, *(f"{ms}-{seq}" for ms, seq in ids))
    seen: list[tuple[int, int]] = []
    since = None
    for _ in range(50):
        page = (await history.page(key, LOG, since, limit, reverse=reverse)).publications
        if not page:
            break
        new = [p.id for p in page if p.id not in seen]
        assert new, "a circle"
        seen += new
        since = from_offset(page[-1].offset, reverse=reverse)
    assert sorted(seen) == ids
    if not reverse:
        assert seen == ids


# Epochs


async def test_an_epoch_is_made_once(history: History, redis: Redis, name: Name) -> None:
    """All who ask get the same; while there is no stream it expires, afterwards it stays."""
    key = name("log")
    found = await asyncio.gather(*(history.epoch(key, make=True) for _ in range(5)))
    assert len(set(found)) == 1
    assert 0 < await redis.ttl(Keys("").epoch(key)) <= EPOCH_TTL
    await _write(redis, key, 1)
    assert await history.epoch(key) == found[0]
    assert await redis.ttl(Keys("").epoch(key)) == -1
    assert await history.epochs([key, name("log")]) == [found[0], None]


async def test_asking_for_an_epoch_makes_none(history: History, redis: Redis, name: Name) -> None:
    """Where there is no stream: anybody can make up names."""
    key = name("log")
    assert await history.epoch(key) == ""
    assert not await redis.exists(Keys("").epoch(key))
    made = await history.epoch(key, make=True)
    assert await history.epoch(key) == made
    other = name("log")
    await _write(redis, other, 1)
    assert await history.epoch(other) == await history.epoch(other, make=True) != ""
    assert await redis.ttl(Keys("").epoch(other)) == -1


async def test_nothing_is_written_that_need_not_be(history: History, redis: Redis, name: Name) -> None:
    """So that an existing stream can be joined where Redis takes no writes."""
    there, absent = name("log"), name("log")
    await _write(redis, there, 1)
    for key in (there, absent):
        await history.epoch(key, make=True)
    before = (await redis.info("commandstats")).get
    for key in (there, absent):
        await history.epoch(key, make=True)
        await history.epoch(key)
    after = await redis.info("commandstats")
    for command in ("cmdstat_set", "cmdstat_persist", "cmdstat_expire"):
        assert after.get(command) == before(command)
    await redis.expire(Keys("").epoch(absent), EPOCH_TTL // 3)
    await history.epoch(absent, make=True)
    assert await redis.ttl(Keys("").epoch(absent)) > EPOCH_TTL // 2


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b'"', b"x" * 1000, None])
async def test_what_is_no_epoch_is_refused(
    value: bytes | None, history: History, redis: Redis, name: Name
) -> None:
    """By 108, which names the key; the sweep goes on with what it knows."""
    key = name("log")
    epoch = Keys("").epoch(key)
    if value is None:
        await redis.hset(epoch, items=["a", "b"])
    else:
        await redis.set(epoch, value)
    with pytest.raises(ReplyError, match="108") as info:
        await history.epoch(key, make=True)
    assert epoch in info.value.message
    assert await history.epochs([key]) == [None]
    assert await history.ensure_epochs([(key, "mine")]) == [None]


async def test_another_life_has_another_epoch(history: History, redis: Redis, name: Name) -> None:
    """Unless nothing was lost, and the old one may be written again."""
    key = name("log")
    first = await history.epoch(key, make=True)
    await redis.delete(Keys("").epoch(key))
    assert await history.ensure_epochs([(key, first)]) == [first]
    await redis.delete(Keys("").epoch(key))
    assert await history.epoch(key, make=True) != first
