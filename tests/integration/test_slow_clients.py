"""A client that stops reading: bounded memory, no harm to others, and nothing stale or lost for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.raw_client import CLOSE, TEXT, RawClient
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]

_PAYLOAD = "x" * 1000

#: Entries of `_PAYLOAD`; more than the sockets' buffers and the outbox hold together.
_FLOOD = 6000


async def _flood(redis: Redis, channel: str, first: int, count: int, batch: int = 500) -> list[Given]:
    written = []
    for start in range(first, first + count, batch):
        end = min(start + batch, first + count)
        # At once, so that batches are as large as they are meant to be.
        written += await add_many(redis, channel, ([n, _PAYLOAD] for n in range(start, end)), at_once=True)
    return written


async def _join(client: RawClient, channel: str) -> dict[str, Any]:
    """Connect and subscribe; the subscribe result."""
    await client.command({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}})
    while True:
        for answer in await client.next_answers():
            if answer.get("id") == 2:
                result: dict[str, Any] = answer["subscribe"]
                return result


def _publications(answers: list[dict[str, Any]]) -> list[Given]:
    found = [answer["push"]["pub"] for answer in answers if "push" in answer]
    return [Given(publication["offset"], publication["data"]) for publication in found]


@pytest.mark.parametrize("batch", [20, 500])
async def test_latest_has_the_newest_value_within_its_first_256_kb(
    batch: int, node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("latest")
    async with open_client(node.url) as reading, await RawClient.open(node.port) as stalled:
        await reading.subscribe(channel)
        await _join(stalled, channel)
        written = await _flood(redis, channel, 0, _FLOOD, batch)
        while await reading.publications(channel, 1) != [written[-1]]:
            pass
        before = stalled.taken
        last: Given | None = None
        while last != written[-1]:
            assert stalled.taken - before <= 256 * 1024, f"still not the newest, but {last and last.offset}"
            for given in _publications(await stalled.next_answers()):
                assert last is None or given.offset > last.offset
                last = given
        # It goes on as any other.
        new = await add(redis, channel, "after")
        assert _publications(await stalled.next_answers()) == [new]


async def test_log_is_closed_with_3008_and_recovers(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    # A close handshake that the client takes part in too late would be cut before it reads it.
    settings = {
        "limits": {"outbox_bytes": 262_144, "recovery_entries": 100_000},
        "client": {"close_seconds": 30},
    }
    node = await start_node(redis_process.url, settings)
    channel = name("log")
    async with open_client(node.url) as reading, await RawClient.open(node.port) as stalled:
        await reading.subscribe(channel)
        joined = await _join(stalled, channel)
        written: list[Given] = []

        async def closed_as_slow() -> float:
            written.extend(await _flood(redis, channel, len(written), 500))
            return await node.metric("streamgate_slow_disconnects_total")

        await eventually(closed_as_slow, "the stalled client is closed as slow")
        seen: list[Given] = []
        while (found := await stalled.next_frame()) is not None and found.opcode == TEXT:
            seen += _publications(
                [answer for answer in map(json.loads, found.payload.splitlines()) if answer]
            )
        assert found is not None, "cut without a close frame"
        assert found.opcode == CLOSE
        assert found.close_code == 3008
        check(seen, written[: len(seen)], "the stalled client")
        assert len(seen) < len(written)
        # The other one never noticed.
        check(await reading.publications(channel, len(written)), written, "the reading client")
    # Step by step within what one recovery may hold, as an SDK that was told `recovered:false` could not.
    offset = seen[-1].offset if seen else joined.get("offset", 0)
    roomy = await start_node(
        redis_process.url, {"limits": {"outbox_bytes": 67_108_864, "recovery_entries": 100_000}}
    )
    async with open_client(roomy.url) as client:
        result = await client.recover(channel, {"offset": offset, "epoch": joined["epoch"]})
        assert result["recovered"] is True
        rest = [Given(item["offset"], item["data"]) for item in result["publications"]]
        check(seen + rest, await entries(redis, channel), "the client that came back")


async def test_a_slow_client_that_never_reads_is_aborted(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    settings = {"limits": {"outbox_bytes": 65_536}, "client": {"close_seconds": 1}}
    node = await start_node(redis_process.url, settings)
    channel = name("log")
    async with await RawClient.open(node.port) as stalled:
        await _join(stalled, channel)
        await _flood(redis, channel, 0, _FLOOD)

        async def gone() -> bool:
            return await node.metric("streamgate_connections") == 0

        await eventually(gone, "the connection is aborted")
        assert await node.metric("streamgate_connections_closed_total", code="3008") == 1
        assert await node.metric("streamgate_queue_bytes") == 0


async def test_the_budget_of_the_whole_node_closes_the_largest(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    limits = {"outbox_bytes": 4_194_304, "outbox_total_bytes": 1_048_576}
    node = await start_node(redis_process.url, {"limits": limits, "client": {"close_seconds": 1}})
    channel, other = name("log"), name("log")
    async with (
        open_client(node.url) as reading,
        await RawClient.open(node.port) as stalled,
        await RawClient.open(node.port) as idle,
    ):
        await reading.subscribe(channel)
        await _join(stalled, channel)
        await _join(idle, other)
        for first in range(0, 4000, 100):
            written = await _flood(redis, channel, first, 100)
            check(await reading.publications(channel, len(written)), written, "the reading client")

        async def closed() -> bool:
            return await node.metric("streamgate_slow_disconnects_total") == 1

        await eventually(closed, "the stalled client is closed")
        await add(redis, other, "still here")
        assert [given.data for given in _publications(await idle.next_answers())] == ["still here"]


async def test_unsubscribing_takes_pending_entries_along(node: NodeProcess, redis: Redis, name: Name) -> None:
    """A `latest` channel's conflated entry does not follow its unsubscribe reply."""
    channel, other = name("latest"), name("latest")
    async with open_client(node.url) as reading, await RawClient.open(node.port) as stalled:
        await reading.subscribe(channel)
        await _join(stalled, channel)
        await stalled.command({"id": 3, "subscribe": {"channel": other}})
        written = await _flood(redis, channel, 0, _FLOOD, 20)
        while await reading.publications(channel, 1) != [written[-1]]:
            pass
        await stalled.command({"id": 4, "unsubscribe": {"channel": channel}})
        await asyncio.wait_for(_until_left(stalled), 30)
        new = await add(redis, other, "other")
        answers = await stalled.next_answers()
        assert [answer["push"]["channel"] for answer in answers] == [other]
        assert _publications(answers) == [new]


async def _until_left(client: RawClient) -> None:
    while True:
        answers = await client.next_answers()
        for at, answer in enumerate(answers):
            if answer.get("id") == 4:
                assert answers[at + 1 :] == [], "something followed the unsubscribe reply"
                return


async def test_one_flooding_client_does_not_silence_the_others(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    async with open_client(node.url) as client, open_client(node.url) as flooding:
        await client.subscribe(channel)
        stop = asyncio.Event()

        async def flood() -> None:
            while not stop.is_set():
                await flooding.send_raw("\n".join(["{}"] * 50))

        task = asyncio.create_task(flood())
        try:
            for number in range(50):
                await add(redis, channel, number)
                assert await client.next_data(channel, 5) == number
        finally:
            stop.set()
            await asyncio.wait([task], timeout=5)
            if task.done():
                task.exception()  # it may have been closed for its many frames
