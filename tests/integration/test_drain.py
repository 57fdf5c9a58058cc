"""SIGTERM: unready while it still accepts, sessions closed with 3001 in waves, and then the end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add, add_many, check, entries
from tests.support.node import StartNode
from tests.support.raw_client import RawClient
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]

#: What an orchestrator takes for a good end after SIGTERM.
_GOOD_ENDS = {0, 128 + signal.SIGTERM, -signal.SIGTERM}


async def test_unready_but_still_accepting(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"server": {"settle_seconds": 3, "drain_seconds": 0.1}})
    async with open_client(node.url) as early:
        node.terminate()

        async def unready() -> bool:
            return (await http.get(node.admin_port, "/readyz")).status == 503

        await eventually(unready, "it says it is not ready", seconds=2)
        assert (await http.get(node.admin_port, "/livez")).status == 200
        assert await node.metric("streamgate_draining") == 1
        assert not early.is_closed
        async with open_client(node.url) as late:  # the load balancer may not have heard of it yet
            assert await late.closed() == (3001, "shutdown")
        assert await early.closed() == (3001, "shutdown")
    assert await asyncio.to_thread(node.wait, 15) in _GOOD_ENDS


async def test_closes_are_spread(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"server": {"settle_seconds": 0, "drain_seconds": 2}})
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(node.url)) for _ in range(40)]
        closed_at: list[float] = []

        async def watch(number: int) -> None:
            assert await clients[number].closed() == (3001, "shutdown")
            closed_at.append(time.monotonic())

        node.terminate()
        await asyncio.gather(*(watch(number) for number in range(len(clients))))
    assert await asyncio.to_thread(node.wait, 15) in _GOOD_ENDS
    # All at once would be a reconnect storm; a quarter of the asked-for spread is not that.
    assert closed_at[-1] - closed_at[0] > 0.5
    halfway = sum(at < (closed_at[0] + closed_at[-1]) / 2 for at in closed_at)
    assert 4 <= halfway <= 36


async def test_a_client_that_never_reads_does_not_hold_the_process(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    settings = {
        "server": {"settle_seconds": 0, "drain_seconds": 0.1},
        "client": {"close_seconds": 1},
        # It has much to read and is not slow by this bound.
        "limits": {"outbox_bytes": 67_108_864},
    }
    node = await start_node(redis_process.url, settings)
    channel = name("log")
    async with await RawClient.open(node.port) as stalled, open_client(node.url) as reading:
        await stalled.command({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}})
        await reading.subscribe(channel)
        written = await add_many(redis, channel, ["x" * 1000] * 6000)
        check(await reading.publications(channel, len(written)), written)
        node.terminate()
        assert await asyncio.to_thread(node.wait, 15) in _GOOD_ENDS
        assert await reading.closed() == (3001, "shutdown")


async def test_a_connection_that_never_said_anything_does_not_hold_the_process(
    start_node: StartNode, redis_process: RedisProcess
) -> None:
    node = await start_node(redis_process.url, {"client": {"close_seconds": 1}})
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    async with await RawClient.open(node.port):
        node.terminate()
        assert await asyncio.to_thread(node.wait, 15) in _GOOD_ENDS
    writer.transport.abort()


async def test_a_second_signal_ends_it_at_once(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"server": {"settle_seconds": 300, "drain_seconds": 300}})
    async with open_client(node.url):
        node.terminate()

        async def draining() -> bool:
            return await node.metric("streamgate_draining") == 1

        await eventually(draining, "it drains")
        node.terminate()
        await asyncio.to_thread(node.wait, 15)


async def test_sigterm_without_a_client_or_redis(
    start_node: StartNode, start_redis: Callable[..., RedisProcess]
) -> None:
    process = start_redis()
    node = await start_node(process.url)
    process.kill()
    assert await node.stop() in _GOOD_ENDS


async def test_nothing_is_lost_by_a_drain(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    leaving = await start_node(redis_process.url, {"server": {"drain_seconds": 0.3}})
    staying = await start_node(redis_process.url)
    channel = name("log")
    async with Reader([leaving.url], channel) as reader:
        first = await add(redis, channel, "first")
        await reader.until_offset(first.offset)
        reader.urls = [staying.url]
        leaving.terminate()
        for number in range(100):
            last = await add(redis, channel, number)
        await reader.until_offset(last.offset)
        await reader.until(lambda: reader.close_codes == [3001], "it was moved with 3001")
        last = await add(redis, channel, "after")
        await reader.until_offset(last.offset)
        check(reader.received, await entries(redis, channel))
        assert reader.unrecovered == []
    assert await asyncio.to_thread(leaving.wait, 15) in _GOOD_ENDS
