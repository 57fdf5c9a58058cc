"""What clients leave behind in Redis: anybody can ask for rooms that nobody ever comes to again."""

from __future__ import annotations

from tests.support.node import StartNode
from tests.support.redis_process import StartRedis, redis_client
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

#: Seconds after which nothing of a room is left that was visited and never written to.
_KEPT = 600


async def test_rooms_that_were_visited(start_node: StartNode, start_redis: StartRedis) -> None:
    """Twice, so that the second one finds what the first one has left."""
    process = start_redis()
    node = await start_node(
        process.url,
        {
            "redis": {"unfollow_seconds": 0, "sweep_seconds": 5},
            "presence": {"batch_ms": 1},
            "namespaces": {"room": {"mode": "log", "chat": True}},
        },
    )
    rooms = [f"room:{number}" for number in range(5)]
    async with redis_client(process.url) as redis, open_client(node.url) as client:

        async def told(times: int) -> None:
            """Wait for so many joins and leaves of each room."""

            async def are_told() -> bool:
                return all([await redis.xlen(f"streamgate:live:{{{room}}}") == times for room in rooms])

            await eventually(are_told, f"{times} joins and leaves are told")

        async def nothing_is_followed() -> bool:
            return await node.metric("streamgate_channels") == 0

        for visit in (0, 2):
            for room in rooms:
                await client.subscribe(room)
            await told(visit + 1)
            for room in rooms:
                await client.call("unsubscribe", channel=room)
            await told(visit + 2)
            await eventually(nothing_is_followed, "the node follows the rooms no more")
        left = {key.decode(): await redis.ttl(key) async for key in redis.scan_iter(match="*room:*")}
        assert left
        assert all(0 < seconds <= _KEPT for seconds in left.values()), left
