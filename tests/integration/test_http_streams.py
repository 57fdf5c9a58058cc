"""SSE and HTTP streams: the same sessions as over WebSockets, and requests of any node for the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.checker import Given, add_many, check, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess, StartRedis, redis_client
from tests.support.stream_client import CONNECT, Json, StreamClient, emulate, lines, open_stream
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

both = pytest.mark.parametrize("transport", ["sse", "http_stream"])


def _subscribe(number: int, channel: str) -> Json:
    return {"id": number, "subscribe": {"channel": channel}}


# What comes


@both
async def test_connect_and_subscribe_in_one_request(
    node: NodeProcess, redis: Redis, name: Name, transport: str
) -> None:
    channel = name("log")
    async with open_stream(node, transport, _subscribe(2, channel)) as client:
        assert client.headers["cache-control"] == "no-store, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        kind = "text/event-stream" if transport == "sse" else "application/json"
        assert client.headers["content-type"] == kind
        assert not {"transfer-encoding", "content-length"} & client.headers.keys()
        assert (await client.reply(2))["subscribe"]["recoverable"] is True
        written = await add_many(redis, channel, ["a\nb\r\u2028c", {"n": 1}, *range(100)])
        check(await client.publications(channel, len(written)), written)


async def test_a_body_of_events(node: NodeProcess) -> None:
    """POST to the endpoint of events, for those who want no tokens in URLs."""
    body = lines(CONNECT).encode()
    head = f"POST /connection/sse HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client = await StreamClient.ask(node.port, "sse", head.encode() + body)
    assert (await client.reply(1))["connect"]["session"]
    client.close()


async def test_websockets_have_no_session_for_others(node: NodeProcess) -> None:
    async with open_client(node.url) as client:
        assert "session" not in client.hello


@both
async def test_pings_and_pongs(start_node: StartNode, redis_process: RedisProcess, transport: str) -> None:
    """Who answers by `/emulation` stays; who does not is told."""
    quick = {"client": {"ping_seconds": 1, "pong_seconds": 1}}
    node = await start_node(redis_process.url, quick)
    async with open_stream(node, transport) as good, open_stream(node, transport) as bad:
        for _ in range(3):
            assert await good.next_message() == {}
            await good.tell(node.port, "{}")
        assert (await bad.ended())["code"] == 3012


@both
async def test_a_slow_reader_is_given_up(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name, transport: str
) -> None:
    channel = name("log")
    node = await start_node(redis_process.url, {"limits": {"outbox_bytes": 262_144}})
    async with open_stream(node, transport, _subscribe(2, channel)), open_client(node.url) as other:
        await other.subscribe(channel)
        sent: list[Given] = []

        async def is_given_up() -> bool:
            sent.extend(await add_many(redis, channel, ["x" * 10_000] * 5))
            return await node.metric("streamgate_slow_disconnects_total", reason="outbox") == 1

        await eventually(is_given_up, "the slow one is given up")
        check(await other.publications(channel, len(sent)), sent)  # whatever the other one does

    async def is_gone() -> bool:
        return await node.metric("streamgate_connections", transport=transport) == 0

    await eventually(is_gone, "its connection is closed")


@both
async def test_draining_tells_and_ends(
    start_node: StartNode, redis_process: RedisProcess, transport: str
) -> None:
    node = await start_node(redis_process.url)
    async with open_stream(node, transport) as client:
        node.terminate()
        assert await client.ended() == {"code": 3001, "reason": "shutdown"}
    await asyncio.to_thread(node.wait, 15.0)


@both
async def test_what_is_no_command_ends_the_session(node: NodeProcess, transport: str) -> None:
    client = await StreamClient.open(node.port, transport, "no JSON")
    assert client.status == 200
    assert await client.ended() == {"code": 3501, "reason": "bad request"}
    client.close()


@both
async def test_a_client_that_goes_away_is_forgotten(
    node: NodeProcess, redis: Redis, name: Name, transport: str
) -> None:
    channel = name("chat")
    async with open_client(node.url) as other:
        async with open_stream(node, transport, _subscribe(2, channel)) as client:
            await client.reply(2)
            letter = client.letter("{}")

        async def is_forgotten() -> bool:
            return await other.call("presence_stats", channel=channel) == {}

        await eventually(is_forgotten, "nobody is in the channel")
    assert (await emulate(node.port, letter)).status_code == 404


async def test_what_follows_the_request_is_ignored_up_to_a_bound(node: NodeProcess) -> None:
    async with open_stream(node) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.call(node.port, "ping"))["ping"] == {}
        with pytest.raises(ConnectionError):  # noqa: PT012 - the reset comes at any of them
            while True:
                await client.send(b"x" * 1000)
                await asyncio.sleep(0)
        assert b"push" not in await client.rest()


async def test_recovery_from_a_websocket_to_a_stream_of_the_other_node(
    nodes: Nodes, redis: Redis, name: Name
) -> None:
    """Every transport has the same positions: exactly the stream, whatever it came by."""
    channel, (first, second) = name("log"), nodes
    received: list[Given] = []
    async with open_client(first.url) as client:
        position = await client.subscribe(channel)
        await add_many(redis, channel, range(50))
        received += await client.publications(channel, 50)
    await add_many(redis, channel, range(50, 100))
    for number, (node, transport) in enumerate(((second, "sse"), (first, "http_stream"), (second, "sse"))):
        again = {"channel": channel, "recover": True, "epoch": position["epoch"]}
        again["offset"] = received[-1].offset
        async with open_stream(node, transport, {"id": 2, "subscribe": again}) as stream:
            result = (await stream.reply(2))["subscribe"]
            assert result["recovered"] is True
            received += [Given(pub["offset"], pub["data"]) for pub in result["publications"]]
            await add_many(redis, channel, [f"{number} {n}" for n in range(50)])
            received += await stream.publications(channel, 50)
        await add_many(redis, channel, [f"between {number} {n}" for n in range(20)])
    async with open_client(first.url) as client:
        last = {"offset": received[-1].offset, "epoch": position["epoch"]}
        result = await client.recover(channel, last)
        received += [Given(pub["offset"], pub["data"]) for pub in result["publications"]]
    check(received, await entries(redis, channel))


# The way back


@both
@pytest.mark.parametrize("by", [0, 1], ids=["the same node", "another node"])
async def test_emulation(nodes: Nodes, redis: Redis, name: Name, transport: str, by: int) -> None:
    channel = name("chat")
    port = nodes[by].port
    async with open_stream(nodes[0], transport) as client:
        assert "error" not in await client.call(port, "subscribe", channel=channel)
        assert (await client.call(port, "publish", channel=channel, data={"by": by}))["publish"] == {}
        check(await client.publications(channel, 1), await entries(redis, channel))
        assert (await client.call(port, "publish", channel="closed:x", data=1))["error"]["code"] == 103
        assert (await client.call(port, "unsubscribe", channel=channel))["unsubscribe"] == {}


async def test_commands_keep_their_order_whatever_node_they_come_by(
    nodes: Nodes, redis: Redis, name: Name
) -> None:
    """What has a 204 is before what is sent after it."""
    channel = name("chat")
    async with open_stream(nodes[0]) as client:
        for number in range(60):
            publish = {"id": 10 + number, "publish": {"channel": channel, "data": number}}
            await client.tell(nodes[number % 2].port, json.dumps(publish))
        for number in range(60):
            await client.reply(10 + number)
    assert [given.data for given in await entries(redis, channel)] == list(range(60))


async def test_a_large_message_by_another_node(nodes: Nodes, redis: Redis, name: Name) -> None:
    """As large as by the same node: the bound is that of messages, not that of entries."""
    channel = name("chat")
    async with open_stream(nodes[0], "http_stream") as client:
        text = '"' * 30_000
        message = lines(*({"id": n, "publish": {"channel": channel, "data": text}} for n in (2, 3)))
        assert 65_536 < len(message) <= 131_072
        await client.tell(nodes[1].port, message)
        for number in (2, 3):
            assert "error" not in await client.reply(number)


async def test_limits_hold_for_commands_of_requests(
    start_node: StartNode, redis_process: RedisProcess, node: NodeProcess
) -> None:
    strict = await start_node(
        redis_process.url, {"limits": {"commands_per_second": 0.001, "commands_burst": 130}}
    )
    async with open_stream(strict) as client:
        for _ in range(10):
            await client.tell(node.port, lines(*({"id": number, "ping": {}} for number in range(1, 21))))
        assert (await client.ended())["code"] == 3509


async def test_a_session_of_nobody_and_a_node_that_is_not(nodes: Nodes) -> None:
    first, second = nodes
    async with open_stream(first) as client:
        good = client.letter("{}")
        for port, wrong in (
            (first.port, {"session": "x" * 22}),
            (first.port, {"node": "0" * 16}),
            (second.port, {"node": "0" * 16}),
            (second.port, {"node": "*"}),
        ):
            answer = await emulate(port, {**good, **wrong})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
        # The other node cannot know the sessions of this one; nothing comes of it.
        await emulate(second.port, {**good, "session": "x" * 22, "data": '{"id":9,"ping":{}}'})
        assert (await client.call(second.port, "ping"))["ping"] == {}


async def test_a_node_that_went_down_has_no_mail(
    start_node: StartNode, node: NodeProcess, redis_process: RedisProcess, redis: Redis
) -> None:
    gone = await start_node(redis_process.url)
    async with open_stream(gone) as client:
        await gone.stop()
        assert (await emulate(node.port, client.letter("{}"))).status_code == 404
        assert not [key async for key in redis.scan_iter(match=f"*{client.hello['node']}*")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no JSON", 400),
        (b"[]", 400),
        (b'{"session":1,"node":"a","data":"{}"}', 400),
        (b"x" * 300_000, 413),
        (json.dumps({"session": "a", "node": "b", "data": "x" * 140_000}).encode(), 413),
    ],
)
async def test_bad_requests_to_emulation(node: NodeProcess, body: bytes, status: int) -> None:
    answer = await emulate(node.port, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)


async def test_mail_is_trimmed_behind_its_reader_and_survives_a_flush(
    start_redis: StartRedis, start_node: StartNode
) -> None:
    process = start_redis()
    first, second = [await start_node(process.url, {"redis": {"sweep_seconds": 0.2}}) for _ in range(2)]
    async with redis_client(process.url) as redis, open_stream(first) as client:
        key = f"streamgate:live:mailbox:{{{client.hello['node']}}}"
        for _ in range(20):
            await client.call(second.port, "ping")

        async def is_trimmed() -> bool:
            return await redis.xlen(key) == 1

        await eventually(is_trimmed, "only the last letter is left")
        assert 0 < await redis.ttl(key) <= 30
        await redis.flushall()

        async def exists() -> bool:
            return bool(await redis.exists(key))

        await eventually(exists, "the node can be written to again")
        # Commands by the other node may have been lost with the stream: the client is told.
        assert (await client.ended())["code"] == 3010
        async with open_stream(first) as again:
            assert (await again.call(second.port, "ping"))["ping"] == {}


# Who may ask, and how


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/connection/sse", 405),
        ("PUT", "/connection/sse", 405),
        ("GET", "/connection/http_stream", 405),
        ("GET", "/emulation", 405),
        ("GET", "/connection/sse", 400),
        ("POST", "/connection/http_stream", 400),
    ],
)
async def test_what_is_no_stream(node: NodeProcess, method: str, path: str, status: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.request(method, f"http://127.0.0.1:{node.port}{path}")
    assert answer.status_code == status
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_url_too_large(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"limits": {"message_bytes": 1000, "publication_bytes": 1000}})
    refused = await StreamClient.open(node.port, "sse", "x" * 1001)
    assert refused.status == 414
    refused.close()


async def test_a_body_too_large_and_one_that_is_not_json(node: NodeProcess) -> None:
    url = f"http://127.0.0.1:{node.port}/connection/http_stream"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(url, content=b"x" * 140_000)).status_code == 413
        binary = {"content-type": "application/octet-stream"}
        assert (await http.post(url, content=b"\x00", headers=binary)).status_code == 415


async def test_origins(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"server": {"allowed_origins": ["https://friend.org"]}})
    url = f"http://127.0.0.1:{node.port}"
    async with httpx.AsyncClient(trust_env=False) as http:
        for path in ("/connection/sse?cf_connect=" + quote(lines(CONNECT)), "/connection/http_stream"):
            method = "GET" if "?" in path else "POST"
            answer = await http.request(method, url + path, headers={"origin": "https://foe.org"})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
        preflight = {"origin": "https://friend.org", "access-control-request-method": "POST"}
        answer = await http.options(url + "/emulation", headers=preflight)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://friend.org"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "content-type"
        answer = await http.options(url + "/emulation", headers={**preflight, "origin": "https://foe.org"})
        assert answer.status_code == 403
    stream = await StreamClient.open(node.port, "sse", lines(CONNECT), "Origin: https://friend.org")
    assert stream.headers["access-control-allow-origin"] == "https://friend.org"
    assert stream.headers["vary"] == "origin"
    client_hello = (await stream.reply(1))["connect"]
    letter = {"session": client_hello["session"], "node": client_hello["node"], "data": "{}"}
    assert (await emulate(node.port, letter, origin="https://foe.org")).status_code == 403
    answer = await emulate(node.port, letter, origin="https://friend.org")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "https://friend.org")
    stream.close()


async def test_any_origin_means_no_credentials(start_node: StartNode, redis_process: RedisProcess) -> None:
    node = await start_node(redis_process.url, {"server": {"allowed_origins": ["*"]}})
    stream = await StreamClient.open(node.port, "http_stream", lines(CONNECT), "Origin: https://any.org")
    assert stream.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in stream.headers
    stream.close()


@both
async def test_a_full_node_says_when_to_come_back(
    start_node: StartNode, redis_process: RedisProcess, transport: str
) -> None:
    node = await start_node(redis_process.url, {"limits": {"connections": 1}})
    async with open_stream(node, transport):
        refused = await StreamClient.open(node.port, transport, lines(CONNECT))
        assert refused.status == 503
        assert refused.headers["retry-after"] == "5"
        assert await refused.rest() == b"too many connections\n"
        refused.close()
