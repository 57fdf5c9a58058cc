"""Reading a channel's history: positions, pages, both directions."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from tests.support.checker import Given, add_many
from tests.support.node import NodeProcess
from tests.support.ws_client import Json, open_client

Name = Callable[[str], str]


def _given(result: Json) -> list[Given]:
    return [Given(publication["offset"], publication["data"]) for publication in result["publications"]]


async def test_history_without_a_limit_is_the_position(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    written = await add_many(redis, channel, range(10))
    async with open_client(node.url) as client:
        result = await client.call("history", channel=channel)
        assert result.get("publications", []) == []
        assert result["offset"] == written[-1].offset
        assert result["epoch"]


async def test_all_and_pages_and_reverse(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    written = await add_many(redis, channel, range(10))
    async with open_client(node.url) as client:
        result = await client.call("history", channel=channel, limit=-1)
        assert _given(result) == written
        since = {"offset": written[3].offset, "epoch": result["epoch"]}
        page = await client.call("history", channel=channel, limit=3, since=since)
        assert _given(page) == written[4:7]
        newest = await client.call("history", channel=channel, limit=2, reverse=True)
        assert _given(newest) == written[:-3:-1]
        older = await client.call("history", channel=channel, limit=2, reverse=True, since=since)
        assert _given(older) == [written[2], written[1]]


async def test_history_of_another_life_of_the_stream(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    written = await add_many(redis, channel, range(10))
    async with open_client(node.url) as client:
        since = {"offset": written[3].offset, "epoch": "another"}
        assert (await client.error("history", channel=channel, limit=3, since=since))["code"] == 112


async def test_a_page_never_ends_inside_a_saturated_run(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("log")
    for seq in range(4090, 4110):
        await redis.xadd(channel, {"data": str(seq)}, id=f"7-{seq}")
    await redis.xadd(channel, {"data": "1"}, id="8-0")
    async with open_client(node.url) as client:
        seen: list[object] = []
        params: Json = {}
        for _ in range(10):
            result = await client.call("history", channel=channel, limit=7, **params)
            page = result.get("publications", [])
            seen += [publication["data"] for publication in page]
            if page:
                params["since"] = {"offset": page[-1]["offset"], "epoch": result["epoch"]}
            if not page or 1 in seen:
                break
        # Twice is allowed within the run, less than once is not.
        assert sorted(set(seen), key=str) == sorted([*range(4090, 4110), 1], key=str)
