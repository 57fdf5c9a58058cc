"""The server API publishes: what is written, once, on whatever node, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support import api
from tests.support.checker import entries, offset_of
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {
    "api": api.API,
    "limits": {"publication_bytes": 4096},
    "namespaces": {"room": {"mode": "log", "chat": True, "publish": "anonymous", "presence": "anonymous"}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


# publish


async def test_publish(pair: Nodes, redis: Redis, name: Name) -> None:
    """To subscribers of both nodes, as written, where no client may publish; with its position."""
    channel = name("log")
    async with open_client(pair[0].url) as one, open_client(pair[1].url) as other:
        subscribed = await one.subscribe(channel)
        await other.subscribe(channel)
        result = await api.call(pair[0], "publish", channel=channel, data={"a": [1, None]}, tags={"k": "v"})
        (entry,) = await entries(redis, channel)
        assert result == {"offset": entry.offset, "epoch": subscribed["epoch"]}
        for client in (one, other):
            expected = {"data": {"a": [1, None]}, "tags": {"k": "v"}, "offset": entry.offset}
            assert await client.next_publication(channel) == expected


async def test_data_stay_as_they_were_written(pair: Nodes, redis: Redis, name: Name) -> None:
    """Every digit, wherever in the request it stands."""
    channel, data = name("log"), '{"price": 1.10000000000000000001}'
    headers = {"X-API-Key": api.KEY}
    single = '{"channel":"%s","data":%s}' % (channel, data)  # noqa: UP031 - braces
    batch = '{"commands":[{"info":{}},{"publish":%s}]}' % single  # noqa: UP031
    for path, body in (("publish", single), ("batch", batch)):
        assert (await api.post(pair[0], f"/api/{path}", body.encode(), headers)).status == 200
    written: Any = await redis.xrange(channel)
    assert [fields[b"data"].decode() for _, fields in written] == [data, data]


async def test_null_is_data(pair: Nodes, redis: Redis, name: Name) -> None:
    channel = name("log")
    await api.call(pair[0], "publish", channel=channel, data=None)
    assert [entry.data for entry in await entries(redis, channel)] == [None]


async def test_publishing_trims_to_the_namespaces_size(pair: Nodes, redis: Redis, name: Name) -> None:
    """As a client's publishing does, in whole nodes of the stream."""
    channel = name("quotes")
    commands = [{"publish": {"channel": channel, "data": 1}}] * 100
    for _ in range(13):
        await api.call_batch(pair[0], commands)
    assert await redis.xlen(channel) < 1300


# Idempotency


async def test_the_same_key_writes_once(pair: Nodes, redis: Redis, name: Name) -> None:
    """Raced from both nodes: one entry, one answer."""
    channel = name("log")
    params = {"channel": channel, "data": 1, "idempotency_key": "order 17 {x}"}
    results = await asyncio.gather(*(api.call(pair[n % 2], "publish", **params) for n in range(20)))
    (entry,) = await entries(redis, channel)
    assert all(result == results[0] for result in results)
    assert results[0]["offset"] == entry.offset
    await api.call(pair[0], "publish", **params | {"idempotency_key": "order 18"})
    assert len(await entries(redis, channel)) == 2


async def test_a_key_holds_for_its_channel_for_five_minutes(pair: Nodes, redis: Redis, name: Name) -> None:
    first, second = name("log"), name("log")
    params = {"channels": [first, second, first], "data": 1, "idempotency_key": "k"}
    responses = (await api.call(pair[0], "broadcast", **params))["responses"]
    assert responses[0] == responses[2]
    for channel in (first, second):
        assert len(await entries(redis, channel)) == 1
        key = f"streamgate:idempotency:{{{channel}}}:k"
        assert 290_000 < await redis.pttl(key) <= 300_000
        await redis.delete(key)
    assert (await api.call(pair[1], "publish", channel=first, data=1, idempotency_key="k")) != responses[0]
    assert len(await entries(redis, first)) == 2


# Chat


async def _next(client: Client) -> Json:
    """The next publication; joins come when they do."""
    while "pub" not in (push := await client.next_push()):
        assert "join" in push
    publication: Json = push["pub"]
    return publication


async def test_a_publication_in_a_room_is_a_message(pair: Nodes, name: Name) -> None:
    room = name("room")
    async with open_client(pair[1].url) as client:
        await client.subscribe(room)
        params = {"channel": room, "data": {"text": "hello", "role": "x"}, "idempotency_key": "k"}
        result = await api.call(pair[0], "publish", **params, as_user="ann")
        assert result == await api.call(pair[1], "publish", **params, as_user="ann")
        publication = await _next(client)
        assert publication["data"] == {"type": "message", "text": "hello", "nonce": "k"}
        assert publication["info"] == {"user": "ann"}
        assert publication["tags"]["id"] == result["id"]
        assert publication["offset"] == result["offset"] == offset_of(result["id"])
        await api.call(pair[0], "publish", channel=room, data={"body": {"sticker": 4}})
        publication = await _next(client)
        assert (publication["info"], publication["data"]["body"]) == ({"user": "server"}, {"sticker": 4})


@pytest.mark.parametrize(
    ("data", "more", "code"),
    [
        ("hello", {}, 107),
        ({}, {}, 107),
        ({"text": "x" * 5000}, {}, 106),
        ({"text": "x", "nonce": "a"}, {"idempotency_key": "b"}, 107),
        ({"text": "x"}, {"tags": {"a": "b"}}, 107),
    ],
)
async def test_what_is_no_message(pair: Nodes, name: Name, data: Json | str, more: Json, code: int) -> None:
    error = await api.error(pair[0], "publish", channel=name("room"), data=data, **more)
    assert error["code"] == code


# broadcast


async def test_broadcast(pair: Nodes, redis: Redis, name: Name) -> None:
    """One response for each channel, in order; what fails in one does not keep it from the others."""
    good, room, taken = name("log"), name("room"), name("log")
    await redis.set(taken, "something else")
    channels = [good, "nowhere:x", taken, room, "a b", good]
    responses = (await api.call(pair[0], "broadcast", channels=channels, data={"text": "hi"}))["responses"]
    codes = [response.get("error", {}).get("code", 0) for response in responses]
    assert codes == [0, 102, 108, 0, 102, 0]
    assert "there are" in responses[1]["error"]["message"]
    assert len(await entries(redis, good)) == 2
    assert [response["result"]["offset"] for response in (responses[0], responses[5])] == [
        entry.offset for entry in await entries(redis, good)
    ]


async def test_a_broadcast_to_many(pair: Nodes, redis: Redis, name: Name) -> None:
    channels = [name("log") for _ in range(1000)]
    responses = (await api.call(pair[0], "broadcast", channels=channels, data=1))["responses"]
    assert len(responses) == 1000
    assert all(response.keys() == {"result"} for response in responses)
    assert await redis.xlen(channels[999]) == 1


# batch


async def test_a_batch_runs_in_order(pair: Nodes, redis: Redis, name: Name) -> None:
    """What fails does not keep the others from being carried out."""
    channel = name("log")
    commands: list[Json] = [{"publish": {"channel": channel, "data": n}} for n in range(20)]
    commands[7] = {"publish": {"channel": "nowhere:x", "data": 7}}
    commands += [{"history": {"channel": channel, "limit": -1}}, {"fly": {}}, {"publish": {"chanel": "x"}}]
    replies = await api.call_batch(pair[0], commands)
    offsets = [reply["publish"]["offset"] for reply in replies[:20] if "publish" in reply]
    assert offsets == sorted(offsets)
    assert [reply["error"]["code"] for reply in replies if "error" in reply] == [102, 104, 107]
    assert [each["data"] for each in replies[20]["history"]["publications"]] == [*range(7), *range(8, 20)]


async def test_a_parallel_batch(pair: Nodes, redis: Redis, name: Name) -> None:
    """All of it, answered in the order of the commands."""
    channels = [name("log") for _ in range(50)]
    commands: list[Json] = [{"publish": {"channel": channel, "data": channel}} for channel in channels]
    replies = await api.call_batch(pair[0], commands, parallel=True)
    for channel, reply in zip(channels, replies, strict=True):
        (entry,) = await entries(redis, channel)
        assert entry == (reply["publish"]["offset"], channel)


async def test_batches_that_are_refused(pair: Nodes) -> None:
    """As a whole: nothing of them is done."""
    wrong: list[Any] = [[{"batch": {}}], [{}], [{"publish": {}, "info": {}}], [{"info": 1}], "x"]
    for commands in wrong:
        assert (await api.error(pair[0], "batch", commands=commands))["code"] == 107
    assert "100" in (await api.error(pair[0], "batch", commands=[{"info": {}}] * 101))["message"]


# What is refused


@pytest.mark.parametrize(
    ("params", "code", "why"),
    [
        ({"data": 1}, 107, "channel is required"),
        ({"channel": "log:x"}, 107, "data is required"),
        ({"channel": "", "data": 1}, 107, "channel must not be empty"),
        ({"channel": 5, "data": 1}, 107, "channel must be a string"),
        ({"channel": "log:x", "data": 1, "skip_history": True}, 107, "no parameter 'skip_history'"),
        ({"channel": "log:x", "data": 1, "tags": {"a": 1}}, 107, "tags.a must be a string"),
        ({"channel": "log:x", "data": 1, "tags": []}, 107, "tags must be an object"),
        ({"channel": "log:x", "data": 1, "idempotency_key": "k" * 65}, 107, "at most 64 characters, not 65"),
        ({"channel": "log:x", "data": 1, "as_user": "ann"}, 107, "as_user is for channels with chat"),
        ({"channel": "log:x", "data": "x" * 4095}, 106, "data has 4097 bytes, 4096 are allowed"),
        ({"channel": "nowhere:x", "data": 1}, 102, "no namespace 'nowhere'"),
        ({"channel": "log:a b", "data": 1}, 102, "has no ' '"),
        ({"channel": "x" * 300, "data": 1}, 102, "at most 255 bytes"),
    ],
)
async def test_publications_that_are_refused(pair: Nodes, params: Json, code: int, why: str) -> None:
    error = await api.error(pair[0], "publish", **params)
    assert (error["code"], why in error["message"]) == (code, True), error


async def test_broadcasts_that_are_refused(pair: Nodes) -> None:
    for channels in (None, [], ["log:x"] * 1001, ["log:x", 5], "log:x"):
        error = await api.error(pair[0], "broadcast", channels=channels, data=1)
        assert (error["code"], "channels" in error["message"]) == (107, True)
