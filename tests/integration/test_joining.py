"""Joins, leaves and entries that come at the same instant: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.producer import Producer
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]


@asynccontextmanager
async def _clients(node: NodeProcess, count: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_client(node.url)) for _ in range(count)]


@asynccontextmanager
async def _pouring(
    redis: Redis, key: str, *, batch: int = 20, pause: float = 0.002
) -> AsyncIterator[Producer]:
    """A producer that writes all the while."""
    producer = Producer(redis, key, rng=random.Random(1), batch=batch, pause=pause)
    task = asyncio.create_task(producer.write(10_000_000))
    try:
        yield producer
    finally:
        producer.stop()
        await task


async def _all_of(client: Client, channel: str, joined: Json, redis: Redis, who: str) -> None:
    """The client was given exactly what the stream holds after its join, up to a last entry."""
    last = await add(redis, channel, "last")
    received: list[Given] = [Given(item["offset"], item["data"]) for item in joined.get("publications", [])]
    while not received or received[-1] != last:
        received += await client.publications(channel, 1)
    check(received, await entries(redis, channel, joined.get("offset", 0)), who)
    assert client.pushes_now() == [], who


async def test_two_first_subscribers_at_the_same_instant(node: NodeProcess, redis: Redis, name: Name) -> None:
    async with _clients(node, 2) as (a, b):
        for number in range(40):
            channel = name("log")
            if number % 2:
                await add(redis, channel, "a past")
            joins = asyncio.gather(a.subscribe(channel), b.subscribe(channel))
            written = [await add(redis, channel, n) for n in range(3)]
            for client, joined in zip((a, b), await joins, strict=True):
                start = joined.get("offset", 0)
                expected = [given for given in written if given.offset > start]
                check(await client.publications(channel, len(expected)), expected, channel)
            await asyncio.gather(*(client.call("unsubscribe", channel=channel) for client in (a, b)))


@pytest.mark.parametrize("linger", [0, 5])
async def test_the_last_one_leaves_while_another_joins(
    linger: float, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"redis": {"unfollow_seconds": linger}})
    channel = name("log")
    async with _clients(node, 2) as (a, b), _pouring(redis, channel, batch=3):
        here, there = a, b
        await here.subscribe(channel)
        for number in range(60):
            joined, _ = await asyncio.gather(
                there.subscribe(channel), here.call("unsubscribe", channel=channel)
            )
            here.pushes_now()
            received = await there.publications(channel, 5)
            expected = await entries(redis, channel, joined.get("offset", 0))
            check(received, expected[:5], f"round {number}")
            here, there = there, here


async def test_unsubscribe_racing_subscribe_in_one_session(
    node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with open_client(node.url) as client, _pouring(redis, channel, batch=3):
        for _ in range(30):
            subscribe, unsubscribe, again = (client.next_id() for _ in range(3))
            await client.send_raw(
                "\n".join(
                    json.dumps({"id": number, method: {"channel": channel}})
                    for number, method in (
                        (subscribe, "subscribe"),
                        (unsubscribe, "unsubscribe"),
                        (again, "subscribe"),
                    )
                )
            )
            assert "error" not in await client.reply(subscribe)
            assert "error" not in await client.reply(unsubscribe)
            joined = (await client.reply(again))["subscribe"]
            start = joined.get("offset", 0)
            # What the first subscription was given came before the second one's first entry.
            received: list[Given] = []
            while len(received) < 5:
                received += [given for given in await client.publications(channel, 1) if given.offset > start]
            check(received, (await entries(redis, channel, start))[:5])
            await client.call("unsubscribe", channel=channel)
            client.pushes_now()


@pytest.mark.parametrize("windows", [67_108_864, 0], ids=["windows", "no-windows"])
async def test_joins_while_entries_pour_in(
    windows: int, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    limits = {"window_total_bytes": windows, "outbox_bytes": 67_108_864}
    node = await start_node(redis_process.url, {"limits": limits})
    channel = name("log")
    async with _clients(node, 12) as clients:
        joins = []
        async with _pouring(redis, channel):
            for client in clients:
                joins.append(await client.subscribe(channel))
                await client.publications(channel, 3)  # some of them before the next one joins
        for number, (client, joined) in enumerate(zip(clients, joins, strict=True)):
            last = await add(redis, channel, f"last {number}")
            received = await client.publications(channel, 1)
            while received[-1] != last:
                received += await client.publications(channel, 1)
            expected = await entries(redis, channel, joined.get("offset", 0))
            check(received, expected[3:], f"client {number}")


@pytest.mark.parametrize("windows", [67_108_864, 0], ids=["windows", "no-windows"])
async def test_recoveries_while_entries_pour_in(
    windows: int, start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    limits = {"window_total_bytes": windows, "outbox_bytes": 67_108_864, "recovery_entries": 100_000}
    node = await start_node(redis_process.url, {"limits": limits})
    channel = name("log")
    first = await add(redis, channel, "first")
    async with _clients(node, 8) as clients:
        epoch = (await clients[0].call("history", channel=channel))["epoch"]
        position = {"offset": first.offset, "epoch": epoch}
        async with _pouring(redis, channel):
            joins = await asyncio.gather(*(client.recover(channel, position) for client in clients[:4]))
            for client in clients[4:]:
                joins.append(await client.recover(channel, position))
        for number, (client, joined) in enumerate(zip(clients, joins, strict=True)):
            assert joined["recovered"] is True
            await _all_of_recovery(client, channel, joined, redis, first, f"client {number}")


async def _all_of_recovery(
    client: Client, channel: str, joined: Json, redis: Redis, first: Given, who: str
) -> None:
    last = await add(redis, channel, f"last of {who}")
    received = [Given(item["offset"], item["data"]) for item in joined.get("publications", [])]
    while not received or received[-1] != last:
        received += await client.publications(channel, 1)
    check(received, await entries(redis, channel, first.offset), who)


async def test_a_snapshot_and_what_follows_while_entries_pour_in(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"limits": {"outbox_bytes": 67_108_864}})
    channel = name("scores")
    await add(redis, channel, "the past")
    async with _clients(node, 8) as clients:
        joins = []
        async with _pouring(redis, channel):
            for client in clients:
                joins.append(await client.subscribe(channel))
        for number, (client, joined) in enumerate(zip(clients, joins, strict=True)):
            shown = joined.get("publications") or [await client.next_publication(channel)]
            assert len(shown) == 1
            assert shown[0]["tags"] == {"snapshot": "true"}
            assert shown[0]["offset"] == joined["offset"]
            del joined["publications"]
            await _all_of(client, channel, joined, redis, f"client {number}")


async def test_latest_never_goes_back_and_ends_with_the_newest(
    node: NodeProcess, redis: Redis, name: Name
) -> None:
    channel = name("latest")
    async with _clients(node, 6) as clients:
        async with _pouring(redis, channel, batch=100):
            for client in clients:
                await client.subscribe(channel)
                await client.next_publication(channel)
        last = await add(redis, channel, "newest")
        for client in clients:
            offsets = [0]
            while offsets[-1] != last.offset:
                publication = await client.next_publication(channel)
                assert publication["offset"] > offsets[-1]
                offsets.append(publication["offset"])
