"""A Redis that refuses: the node says so, and does what it still can."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from tests.support import http
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import StartRedis
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]


async def test_a_replica(
    start_redis: StartRedis, start_node: StartNode, connect_redis: Callable[[str], Redis], name: Name
) -> None:
    """Not ready, in words; what exists can be subscribed to and is delivered."""
    primary, replica = start_redis(), start_redis()
    writer, channel = connect_redis(primary.url), name("chat")
    await writer.xadd(channel, {"data": '"old"'})
    node = await start_node(primary.url)
    async with open_client(node.url) as client:
        await client.subscribe(channel)  # now the stream has an epoch
    reader = connect_redis(replica.url)
    await reader.replicaof("127.0.0.1", primary.port)
    await eventually(lambda: reader.exists(f"streamgate:epoch:{{{channel}}}"), "the replica has caught up")
    with NodeProcess(replica.url) as other:
        other.spawn()

        async def refused() -> bool:
            try:
                return "READONLY" in (await http.get(other.admin_port, "/readyz")).body
            except OSError:
                return False

        await eventually(refused, "the node says what is wrong")
        assert not await other.ready()
        async with open_client(other.url) as client:
            await client.subscribe(channel)
            assert (await client.call("history", channel=channel, limit=1))["publications"]
            await writer.xadd(channel, {"data": '"new"'})
            assert await client.next_data(channel) == "new"
            assert (await client.error("publish", channel=channel, data=1))["code"] == 100
        assert "Redis refuses XADD: READONLY" in other.log
        assert "Traceback" not in other.log


async def test_out_of_memory(
    start_redis: StartRedis, start_node: StartNode, connect_redis: Callable[[str], Redis], name: Name
) -> None:
    """What exists can be subscribed to; what would need a write is refused, and told."""
    process = start_redis()
    redis, channel = connect_redis(process.url), name("chat")
    node = await start_node(process.url)
    await redis.xadd(channel, {"data": '"old"'})
    async with open_client(node.url) as client:
        await client.subscribe(channel)
    other = await start_node(process.url)
    await redis.config_set("maxmemory", 1)
    async with open_client(other.url) as client:
        await client.subscribe(channel)
        assert (await client.error("publish", channel=channel, data=1))["code"] == 100
        assert (await client.error("subscribe", channel=name("chat")))["code"] == 100
    assert await other.ready()
    assert "Redis refuses XADD: OOM" in other.log
    assert "Redis refuses EVAL: OOM" in other.log
