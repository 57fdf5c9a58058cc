"""Redis goes away and comes back, also empty: connections stay, commands are answered, tails resume."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.reader import Reader
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.waiting import eventually
from tests.support.ws_client import Client, open_client

Name = Callable[[str], str]
ConnectRedis = Callable[[str], Redis]

#: Seconds in which commands are answered while Redis is away, and some for a loaded test machine.
_ANSWER = 2.0 + 0.7


async def _refused(client: Client, channel: str) -> None:
    """Every kind of command that needs Redis is answered in time, all at once and one by one."""
    commands = [
        client.error("subscribe", _ANSWER, channel=f"{channel}-new"),
        client.error("history", _ANSWER, channel=channel, limit=10),
        client.error("publish", _ANSWER, channel=channel, data={"text": "lost"}),
    ]
    for error in await asyncio.gather(*commands):
        assert (error["code"], error.get("temporary")) == (100, True)
    error = await client.error("publish", _ANSWER, channel=channel, data={"text": "lost too"})
    assert error["code"] == 100


async def _answers(client: Client, channel: str) -> None:
    async def answered() -> bool:
        return "error" not in await client.command("history", channel=channel)

    await eventually(answered, "commands are answered again")


async def _back(process: RedisProcess, redis: Redis) -> None:
    """Start Redis again, and have the test's own client forget its dead connections."""
    await asyncio.to_thread(process.start)
    await redis.connection_pool.disconnect()


async def _not_ready(node: NodeProcess) -> None:
    async def unready() -> bool:
        return (await http.get(node.admin_port, "/readyz")).status == 503

    await eventually(unready, "the node says it is not ready")
    assert (await http.get(node.admin_port, "/livez")).status == 200


@pytest.mark.parametrize("how", ["dead", "silent"])
async def test_commands_are_answered_and_the_tail_resumes(
    how: str, start_redis: StartRedis, connect_redis: ConnectRedis, start_node: StartNode, name: Name
) -> None:
    process = start_redis(durable=True)
    redis = connect_redis(process.url)
    node = await start_node(process.url)
    channel = name("chat")
    async with open_client(node.url) as client, Reader([node.url], channel) as reader:
        await client.subscribe(channel)
        await add(redis, channel, "before")
        assert await client.next_data(channel) == "before"
        if how == "dead":
            process.kill()
        else:
            process.pause()
        await _refused(client, channel)
        await _not_ready(node)
        if how == "dead":
            await _back(process, redis)
        else:
            process.resume()
        await _answers(client, channel)
        last = await add(redis, channel, "after")
        # A silent Redis executes what it was sent once it goes on: such publishes are in the stream.
        await reader.until_offset(last.offset)
        check(reader.received, await entries(redis, channel))
        assert (reader.connections, reader.insufficient) == (1, 0)
        assert not client.is_closed
        await eventually(node.ready, "the node is ready again")


async def test_a_cut_tail_reads_what_it_missed(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    channel = name("log")
    async with Proxy(redis_process.port) as proxy:
        node = await start_node(redis_process.url_at(proxy.port))
        async with Reader([node.url], channel) as reader:
            for number in range(5):
                first = await add(redis, channel, f"before {number}")
                await reader.until_offset(first.offset)
                proxy.close_door()
                await add_many(redis, channel, range(50))
                proxy.open_door()
                last = await add(redis, channel, f"after {number}")
                await reader.until_offset(last.offset)
            check(reader.received, await entries(redis, channel))
            assert (reader.connections, reader.insufficient) == (1, 0)


async def test_a_connection_that_hangs_is_given_up(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    """No byte passes and no connection closes, as behind a firewall that forgot the flow."""
    channel = name("log")
    async with Proxy(redis_process.port) as proxy:
        node = await start_node(redis_process.url_at(proxy.port), {"redis": {"sweep_seconds": 0.5}})
        async with Reader([node.url], channel) as reader:
            first = await add(redis, channel, "first")
            await reader.until_offset(first.offset)
            connections = proxy.accepted
            proxy.passing.clear()
            last = await add(redis, channel, "last")

            async def dialled_again() -> bool:
                return proxy.accepted > connections

            await eventually(dialled_again, "the node tries a new connection")
            proxy.passing.set()
            await reader.until_offset(last.offset)
            check(reader.received, await entries(redis, channel))


async def test_followed_channels_are_joined_from_the_window(
    start_redis: StartRedis, connect_redis: ConnectRedis, start_node: StartNode, name: Name
) -> None:
    process = start_redis(durable=True)
    redis = connect_redis(process.url)
    node = await start_node(process.url)
    log, quotes = name("log"), name("quotes")
    async with open_client(node.url) as first, open_client(node.url) as second:
        position = await first.subscribe(log)
        await first.subscribe(quotes)
        written = await add_many(redis, log, range(5))
        await first.publications(log, 5)
        await add(redis, quotes, {"price": 1})
        await first.next_publication(quotes)
        process.kill()
        joined = await second.recover(log, position)
        assert joined["recovered"] is True
        assert [item["data"] for item in joined["publications"]] == list(range(5))
        snapshot = await second.subscribe(quotes)
        shown = snapshot.get("publications") or [await second.next_publication(quotes)]
        assert shown[0]["data"] == {"price": 1}
        await _back(process, redis)
        after = await add(redis, log, "after")
        assert (await second.publications(log, 1))[0] == after
        assert (await first.publications(log, 1))[0] == after
        assert after.offset > written[-1].offset


async def test_redis_comes_back_empty(
    start_redis: StartRedis, connect_redis: ConnectRedis, start_node: StartNode, name: Name
) -> None:
    process = start_redis()
    redis = connect_redis(process.url)
    node = await start_node(process.url)
    channel, latest = name("log"), name("latest")
    async with Reader([node.url], channel) as reader, open_client(node.url) as client:
        await client.subscribe(latest)
        written = await add_many(redis, channel, range(5))
        await reader.until_offset(written[-1].offset)
        await add(redis, latest, "old")
        assert await client.next_data(latest) == "old"
        process.kill()
        await _back(process, redis)
        await reader.until(lambda: bool(reader.unrecovered) and reader.subscribed, "it was told")
        assert len(reader.epochs) == 2
        await add(redis, channel, "new")
        await reader.until_data("new")
        await add(redis, latest, "new")
        assert await client.next_data(latest) == "new"
        assert reader.connections == 1


async def test_a_node_without_redis_lives_and_becomes_ready_with_it(
    start_redis: StartRedis, connect_redis: ConnectRedis, name: Name
) -> None:
    process = start_redis()
    url = process.url
    process.kill()
    with NodeProcess(url) as node:
        node.spawn()

        async def alive() -> bool:
            assert node.returncode is None, node.log
            try:
                return (await http.get(node.admin_port, "/livez")).status == 200
            except OSError:
                return False

        await eventually(alive, "it lives")
        assert (await http.get(node.admin_port, "/readyz")).status == 503
        async with open_client(node.url) as client:
            error = await client.error("subscribe", _ANSWER, channel=name("log"))
            assert error["code"] == 100
            process.start()
            await eventually(node.ready, "it is ready")
            channel = name("log")
            await client.subscribe(channel)
            await add(connect_redis(url), channel, "here")
            assert await client.next_data(channel) == "here"
        assert "Traceback" not in node.log
        await node.stop()


async def test_a_password_is_used_and_never_logged(
    start_redis: StartRedis, connect_redis: ConnectRedis, start_node: StartNode, name: Name
) -> None:
    process = start_redis(password="correct-horse-battery")
    redis = connect_redis(process.url)
    node = await start_node(process.url)
    channel = name("log")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await add(redis, channel, "here")
        assert await client.next_data(channel) == "here"
        process.kill()
        await _not_ready(node)
    await node.stop()
    assert "correct-horse" not in node.log


async def test_a_redis_without_tracking_is_polled(
    start_redis: StartRedis, connect_redis: ConnectRedis, start_node: StartNode, name: Name
) -> None:
    """As behind a proxy that refuses CLIENT TRACKING: slower, with one warning, and nothing is lost."""
    process = start_redis()
    redis = connect_redis(process.url)
    await redis.execute_command("ACL", "SETUSER", "default", "-client|tracking")  # type: ignore[no-untyped-call]
    node = await start_node(process.url)
    channel = name("log")
    async with Reader([node.url], channel) as reader:
        for start in range(0, 500, 50):
            written = await add_many(redis, channel, range(start, start + 50))
            await reader.until_offset(written[-1].offset)
        check(reader.received, await entries(redis, channel))
    warnings = [line for line in node.log.splitlines() if "tracking" in line.lower()]
    assert len(warnings) == 1, node.log
