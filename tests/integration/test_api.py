"""The server API as HTTP, and what it reads: presence, history, what nodes report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support import api, http
from tests.support.checker import add, add_many, entries
from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.tokens import TOKENS, signed_in, someone
from tests.support.waiting import DEADLINE, eventually
from tests.support.ws_client import Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {
    "api": api.API,
    "tokens": TOKENS,
    "presence": {"grace_seconds": 0},
    "limits": {"history_page": 20},
    "namespaces": {
        "team": {"mode": "log", "history_size": 0, "subscribe": "token", "presence": "authenticated"},
        "room": {"mode": "log", "chat": True},
    },
}

#: What a good call has.
HEADERS = {"X-API-Key": api.KEY, "Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


# HTTP


@pytest.mark.parametrize(
    ("verb", "method", "content", "headers", "status", "code", "why"),
    [
        ("POST", "publish", b"{}", {"X-API-Key": ""}, 401, 101, "X-API-Key"),
        ("POST", "publish", b"{}", {"X-API-Key": "wrong"}, 401, 101, "X-API-Key"),
        ("POST", "fly", b"{}", {}, 404, 104, "there are batch, broadcast, "),
        ("POST", "a%2Fb", b"{}", {}, 404, 104, "there are"),
        ("POST", "", b"{}", {}, 404, 104, "there are"),
        ("GET", "publish", b"", {}, 405, 107, "the method must be POST, not GET"),
        ("DELETE", "publish", b"", {}, 405, 107, "the method must be POST, not DELETE"),
        ("POST", "publish", b"{}", {"Content-Type": "text/plain"}, 415, 107, "application/json"),
        (
            "POST",
            "publish",
            b"{}",
            {"Content-Type": "application/x-www-form-urlencoded"},
            415,
            107,
            "must be application/json, not 'application/x-www-form-urlencoded'",
        ),
        (
            "POST",
            "publish",
            b"{}",
            {"Content-Type": "Application/JSON; charset=utf-8"},
            200,
            107,
            "channel is",
        ),
        ("POST", "publish", b"{", {}, 400, 107, "not JSON"),
        ("POST", "publish", b"\xff", {}, 400, 107, "not JSON"),
        ("POST", "publish", b"[" * 100_000, {}, 400, 107, "not JSON"),
        ("POST", "publish", b'"x"', {}, 400, 107, "not a JSON object"),
        ("POST", "publish", b" " * (2**20 + 1), {}, 413, 107, "1048576 bytes"),
        ("POST", "publish", b'{"channel":"log:x","data":1e999}', {}, 400, 107, "not JSON"),
    ],
)
async def test_bad_requests(
    pair: Nodes,
    verb: str,
    method: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    code: int,
    why: str,
) -> None:
    """The status says what is wrong, the error in JSON says it to people; the log has no exception."""
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        url = f"http://127.0.0.1:{pair[0].admin_port}/api/{method}"
        response = await client.request(verb, url, content=content, headers=HEADERS | headers)
    assert response.headers["content-type"] == "application/json"
    assert (response.headers.get("allow") == "POST") is (status == 405)
    body = response.json()
    assert (response.status_code, list(body), body["error"]["code"]) == (status, ["error"], code)
    assert why in body["error"]["message"]


async def test_a_body_may_come_without_a_content_type(pair: Nodes, name: Name) -> None:
    await api.call(pair[0], "publish", channel=name("log"), data=1)


async def test_without_keys_the_api_is_off(redis_process: RedisProcess, start_node: StartNode) -> None:
    """Nothing opens it, no key either."""
    node = await start_node(redis_process.url)
    for key in ("", api.KEY):
        answer = await api.post(node, "/api/publish", b"{}", {"X-API-Key": key})
        assert (answer.status, answer.body["error"]["code"]) == (401, 101)
        assert "the API is off" in answer.body["error"]["message"]


async def test_calls_are_counted(pair: Nodes, name: Name) -> None:
    """By method and error code."""
    node, metric = pair[1], "streamgate_api_requests_total"
    before = await node.metric(metric, method="publish", code="102")
    await api.error(node, "publish", channel="nowhere:x", data=1)
    await api.call(node, "publish", channel=name("log"), data=1)
    assert await node.metric(metric, method="publish", code="102") == before + 1
    assert await node.metric(metric, method="publish", code="0") >= 1
    await api.post(node, "/api/fly", b"{}", {"X-API-Key": api.KEY})
    assert await node.metric(metric, method="unknown", code="104") >= 1


async def test_while_redis_is_away(start_redis: StartRedis, start_node: StartNode) -> None:
    """503, and which one of a batch: what was asked may work later."""
    redis = start_redis()
    node = await start_node(redis.url, SETTINGS)
    redis.kill()

    async def unready() -> bool:
        return not await node.ready()

    await eventually(unready, "the node has noticed")
    for method, params in (
        ("publish", b'{"channel":"log:x","data":1,"idempotency_key":"k"}'),
        ("history", b'{"channel":"log:x"}'),
        ("presence", b'{"channel":"log:x"}'),
        ("disconnect", b'{"user":"ann"}'),
    ):
        answer = await api.post(node, f"/api/{method}", params, HEADERS)
        assert (answer.status, answer.body["error"]["code"]) == (503, 100), method
        assert answer.body["error"]["temporary"] is True
    (reply,) = await api.call_batch(node, [{"history": {"channel": "log:x"}}])
    assert reply["error"]["code"] == 100
    (response,) = (await api.call(node, "broadcast", channels=["log:x"], data=1))["responses"]
    assert response["error"]["code"] == 100


# Presence


async def test_presence(pair: Nodes, name: Name) -> None:
    """On all nodes, whoever may ask there."""
    channel, user = name("team"), someone()
    assert await api.call(pair[0], "presence", channel=channel) == {"presence": {}}
    assert await api.call(pair[0], "presence_stats", channel=channel) == {"num_clients": 0, "num_users": 0}
    subs: Json = {"subs": {channel: {"info": {"role": "captain"}}}, "info": {"name": "Ann"}}
    async with signed_in(pair[0].url, user, **subs) as one, signed_in(pair[1].url, user, **subs) as two:
        clients = {client.hello["client"] for client in (one, two)}

        async def both() -> Any:
            found = (await api.call(pair[1], "presence", channel=channel))["presence"]
            return found if len(found) == 2 else None

        found = await eventually(both, "both are seen")
        assert found.keys() == clients
        for client, info in found.items():
            ann: Json = {"conn_info": {"name": "Ann"}, "chan_info": {"role": "captain"}}
            assert info == {"user": user, "client": client} | ann
        assert await api.call(pair[0], "presence_stats", channel=channel) == {
            "num_clients": 2,
            "num_users": 1,
        }


# History


async def test_history(pair: Nodes, redis: Redis, name: Name) -> None:
    """Position alone, pages onwards and backwards; no more than a page."""
    channel = name("log")
    added = await add_many(redis, channel, range(50))
    position = await api.call(pair[0], "history", channel=channel)
    assert (position["publications"], position["offset"]) == ([], added[-1].offset)

    async def page(**params: Any) -> list[Any]:
        result = await api.call(pair[1], "history", channel=channel, **params)
        assert (result["offset"], result["epoch"]) == (position["offset"], position["epoch"])
        return [publication["data"] for publication in result["publications"]]

    assert await page(limit=3) == [0, 1, 2]
    assert await page(limit=3, reverse=True) == [49, 48, 47]
    assert await page(limit=-1) == await page(limit=1000) == [*range(20)]
    since = {"offset": added[9].offset, "epoch": position["epoch"]}
    assert await page(limit=3, since=since) == [10, 11, 12]
    assert await page(limit=3, since={"offset": added[9].offset}, reverse=True) == [8, 7, 6]
    assert await page(limit=2, since=None, reverse=None) == [0, 1]


async def test_history_of_another_epoch(pair: Nodes, redis: Redis, name: Name) -> None:
    """112: the position is of another life of the stream."""
    channel = name("log")
    await add(redis, channel, 1)
    error = await api.error(pair[0], "history", channel=channel, limit=1, since={"offset": 1, "epoch": "x"})
    assert error["code"] == 112


async def test_history_remove(pair: Nodes, redis: Redis, name: Name) -> None:
    """Out of the stream and out of all nodes' memory. With the next publication subscribers learn of it."""
    channel = name("log")
    async with open_client(pair[0].url) as one, open_client(pair[1].url) as other:
        before = await one.subscribe(channel)
        await other.subscribe(channel)
        added = await add_many(redis, channel, range(5))
        for client in (one, other):
            await client.publications(channel, 5)
        counts = [await _forgotten(node) for node in pair]
        assert await api.call(pair[0], "history_remove", channel=channel) == {}
        assert await entries(redis, channel) == []
        page = await api.call(pair[1], "history", channel=channel, limit=10)
        assert page == {"publications": [], "offset": added[-1].offset, "epoch": before["epoch"]}
        for node, count in zip(pair, counts, strict=True):
            await _forgets(node, count + 1)
            async with open_client(node.url) as late:
                result = await late.recover(channel, {"offset": added[2].offset, "epoch": before["epoch"]})
                assert (result["was_recovering"], result.get("recovered", False)) == (True, False)
                assert "publications" not in result
        await api.call(pair[0], "publish", channel=channel, data="next")
        for client in (one, other):
            assert (await client.next_push())["unsubscribe"]["code"] == 2500
            assert not (await client.recover(channel, before)).get("recovered")
        await add(redis, channel, "and on")
        for client in (one, other):
            assert await client.next_data(channel) == "and on"


async def _forgotten(node: NodeProcess) -> float:
    return await node.metric("streamgate_control_commands_total", command="forget")


async def _forgets(node: NodeProcess, count: float) -> None:
    async def enough() -> bool:
        return await _forgotten(node) >= count

    await eventually(enough, "the order was carried out")


async def test_a_rooms_history_is_not_removed_so(pair: Nodes, name: Name) -> None:
    error = await api.error(pair[0], "history_remove", channel=name("room"))
    assert (error["code"], "chat.purge" in error["message"]) == (108, True)


@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "history_remove"])
@pytest.mark.parametrize(
    ("params", "code", "why"),
    [
        ({}, 107, "channel is required"),
        ({"channel": 1}, 107, "channel must be a string"),
        ({"channel": "nowhere:x"}, 102, "there are"),
        ({"channel": "log:x", "chanel": "log:y"}, 107, "no parameter 'chanel'; there are channel"),
    ],
)
async def test_reads_that_are_refused(pair: Nodes, method: str, params: Json, code: int, why: str) -> None:
    error = await api.error(pair[0], method, **params)
    assert (error["code"], why in error["message"]) == (code, True), error


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"limit": -2}, "limit must be an integer from -1 to 2^53 - 1"),
        ({"limit": 1.5}, "limit must be an integer"),
        ({"limit": True}, "limit must be an integer"),
        ({"since": 5}, "since must be an object"),
        ({"since": {"offset": -1}}, "since.offset must be an integer"),
        ({"since": {"ofset": 1}}, "no parameter 'since.ofset'; there are offset, epoch"),
        ({"reverse": 1}, "reverse must be a boolean"),
    ],
)
async def test_pages_that_are_refused(pair: Nodes, params: Json, why: str) -> None:
    error = await api.error(pair[0], "history", channel="log:x", **params)
    assert (error["code"], why in error["message"]) == (107, True), error


async def test_what_is_no_stream(pair: Nodes, redis: Redis, name: Name) -> None:
    """108: there is nothing wrong with Redis."""
    channel = name("log")
    await redis.set(channel, "something else")
    for method in ("history_remove", "publish"):
        params: Json = {"data": 1} if method == "publish" else {}
        assert (await api.error(pair[0], method, channel=channel, **params))["code"] == 108
    assert (await api.error(pair[0], "history", channel=channel, limit=1))["code"] == 108


# disconnect and unsubscribe, as Centrifugo's clients send them


async def test_disconnect_all_but_some(pair: Nodes) -> None:
    user = someone()
    async with signed_in(pair[0].url, user) as kept, signed_in(pair[1].url, user) as ended:
        why: Json = {"code": 4500, "reason": "away"}
        await api.call(pair[0], "disconnect", user=user, whitelist=[kept.hello["client"]], disconnect=why)
        assert await ended.closed() == (4500, "away")
        await kept.command("ping")


async def test_unsubscribe_one_session(pair: Nodes, redis: Redis, name: Name) -> None:
    channel, user = name("log"), someone()
    async with signed_in(pair[0].url, user) as kept, signed_in(pair[1].url, user) as ended:
        await kept.subscribe(channel)
        await ended.subscribe(channel)
        await api.call(pair[0], "unsubscribe", user=user, channel=channel, client=ended.hello["client"])
        assert (await ended.next_push())["unsubscribe"]["code"] == 2000
        await add(redis, channel, "on")
        assert await kept.next_data(channel) == "on"


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({}, "user is required"),
        ({"user": ""}, "user must not be empty"),
        ({"user": "ann", "client": ""}, "client must not be empty"),
        ({"user": "ann", "cleint": "x"}, "no parameter 'cleint'; there are user, client"),
        ({"user": "ann", "code": 5000}, "code must be an integer from 0 to 4999"),
        ({"user": "ann", "code": 2999}, "code must be an integer from 3000 to 4999"),
        ({"user": "ann", "reason": "é" * 100}, "reason has at most 123 bytes"),
        ({"user": "ann", "code": 4000, "disconnect": {}}, "either disconnect or code and reason"),
        ({"user": "ann", "disconnect": {"cod": 4000}}, "no parameter 'disconnect.cod'"),
        ({"user": "ann", "whitelist": [5]}, "whitelist[0] must be a string"),
    ],
)
async def test_disconnects_that_are_refused(pair: Nodes, params: Json, why: str) -> None:
    """What is mistyped or empty would end more sessions than were meant."""
    error = await api.error(pair[0], "disconnect", **params)
    assert (error["code"], why in error["message"]) == (107, True), error


async def test_a_mistyped_ban_is_refused(pair: Nodes, name: Name) -> None:
    """With `second` passed over it would be for ever."""
    error = await api.error(pair[0], "chat.ban", channel=name("room"), user="ann", second=60)
    assert (error["code"], "no parameter 'second'" in error["message"]) == (107, True)


async def test_too_much_for_all_nodes(pair: Nodes) -> None:
    error = await api.error(pair[0], "disconnect", user="x" * 70_000)
    assert error["code"] == 106


async def test_the_document_and_the_page_need_no_key(pair: Nodes) -> None:
    """They tell nothing that is secret."""
    document = await http.get(pair[0].admin_port, "/openapi.json")
    assert (document.status, document.headers["content-type"]) == (200, "application/json")
    page = await http.get(pair[0].admin_port, "/api")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.body
    assert "https://" not in page.body
