"""The server API takes rights away: on all nodes, at once, and for nodes that start later."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support import api
from tests.support.checker import add
from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess, StartRedis, redis_client
from tests.support.tokens import TOKENS, from_now, refused, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]
Enter = Callable[..., Any]

SETTINGS: Json = {
    "tokens": TOKENS,
    "api": api.API,
    "namespaces": {"token": {"mode": "log", "history_size": 0, "subscribe": "token"}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


@pytest_asyncio.fixture
async def enter() -> AsyncIterator[Enter]:
    """Opens clients that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def enter(node: NodeProcess, user: str, **claims: Any) -> Client:
            return await stack.enter_async_context(signed_in(node.url, user, **claims))

        yield enter


async def _unharmed(client: Client) -> None:
    await client.command("ping")
    assert not client.is_closed


# disconnect


async def test_disconnect(pair: Nodes, enter: Enter) -> None:
    """All sessions of the user on all nodes, whichever node is told; nobody else's."""
    user, other = someone(), someone("bob")
    for told in pair:
        mine = [await enter(node, user) for node in (*pair, *pair)]
        theirs = [await enter(node, other) for node in pair]
        assert await api.call(told, "disconnect", user=user) == {}
        for client in mine:
            assert await client.closed() == (3503, "force disconnect")
        for client in theirs:
            await _unharmed(client)
        async with signed_in(told.url, user) as again:  # it was the session that ended, not the right
            assert again.hello["client"]


async def test_disconnect_one_session(pair: Nodes, enter: Enter) -> None:
    user = someone()
    first, second = [await enter(node, user) for node in pair]
    await api.call(pair[0], "disconnect", user=user, client=second.hello["client"], code=4001, reason="bye")
    assert await second.closed() == (4001, "bye")
    await _unharmed(first)
    # Another's client id does not help.
    await api.call(pair[0], "disconnect", user=someone("bob"), client=first.hello["client"])
    await api.call(pair[0], "disconnect", user=user, client="nobody")
    await _unharmed(first)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "user"),
        ({"user": ""}, "user"),
        ({"user": 5}, "user"),
        ({"user": ["ann"]}, "user"),
        ({"user": "ann", "code": 1000}, "code"),
        ({"user": "ann", "code": 2999}, "code"),
        ({"user": "ann", "code": 5000}, "code"),
        ({"user": "ann", "code": "3000"}, "code"),
        ({"user": "ann", "code": True}, "code"),
        ({"user": "ann", "reason": "é" * 62}, "reason"),
        ({"user": "ann", "client": 1}, "client"),
        (
            {"user": "ann", "clint": "…"},
            "no parameter 'clint'; there are user, client, whitelist, code, reason",
        ),
    ],
)
async def test_disconnects_that_cannot_be(pair: Nodes, params: Json, says: str) -> None:
    error = await api.error(pair[0], "disconnect", **params)
    assert error["code"] == 107
    assert says in error["message"]


# unsubscribe


async def test_unsubscribe(pair: Nodes, enter: Enter, redis: Redis, name: Name) -> None:
    user, other, lost, kept = someone(), someone("bob"), name("log"), name("log")
    mine = [await enter(node, user) for node in pair]
    server_side = await enter(pair[1], user, channels=[lost])
    theirs = await enter(pair[1], other)
    for client in (*mine, theirs):
        await client.subscribe(lost)
        await client.subscribe(kept)
    assert await api.call(pair[0], "unsubscribe", user=user, channel=lost) == {}
    for client in (*mine, server_side):
        push = await client.next_push()
        assert push == {
            "channel": lost,
            "unsubscribe": {"code": 2000, "reason": "unsubscribed by the server"},
        }
    await add(redis, lost, "a secret")
    await add(redis, kept, "for all")
    for client in mine:
        assert await client.next_data(kept) == "for all"
        assert client.pushes_now() == []
    assert await theirs.next_data(lost) == "a secret"
    await _unharmed(server_side)
    assert server_side.pushes_now() == []


async def test_unsubscribes_that_cannot_be(pair: Nodes) -> None:
    assert (await api.error(pair[0], "unsubscribe", user="ann", channel="nowhere:x"))["code"] == 102
    assert (await api.error(pair[0], "unsubscribe", user="ann"))["code"] in (102, 107)
    assert (await api.error(pair[0], "unsubscribe", channel="log:x"))["code"] == 107


# revoke


async def test_revoke(pair: Nodes, enter: Enter, start_node: StartNode, redis_process: RedisProcess) -> None:
    """Sessions end, tokens are refused, on both nodes and on one that starts later; newer ones are fine."""
    user, other, now = someone(), someone("bob"), from_now(0)
    old, unknown = token(user, iat=now - 60), token(user)
    mine = [
        *[await enter(node, user, iat=now - 60) for node in pair],
        *[await enter(node, user) for node in pair],
    ]
    theirs = [await enter(node, other, iat=now - 60) for node in pair]
    result = await api.call(pair[0], "revoke", user=user)
    assert abs(result["before_ms"] - now * 1000) < 10_000
    for client in mine:
        assert await client.closed() == (3500, "invalid token")
    for client in theirs:
        await _unharmed(client)
    late = await start_node(redis_process.url, SETTINGS)
    later = result["before_ms"] / 1000 + 0.001
    for node in (*pair, late):
        before = await node.metric("streamgate_auth_failures_total", reason="revoked")
        await refused(node.url, old)
        await refused(node.url, unknown)  # one that does not say when it was issued
        assert await node.metric("streamgate_auth_failures_total", reason="revoked") == before + 2
        async with signed_in(node.url, user, iat=later) as again:
            await again.call("refresh", token=token(user, iat=later))
            await again.send_raw(json.dumps({"id": 99, "refresh": {"token": old}}))
            assert (await again.closed())[0] == 3500
        async with signed_in(node.url, other, iat=now - 60):
            pass


async def test_revoke_up_to_an_instant(pair: Nodes, enter: Enter) -> None:
    """And never back: an earlier instant changes nothing."""
    user, now = someone(), int(time.time())
    old = await enter(pair[0], user, iat=now - 100)
    newer = await enter(pair[1], user, iat=now - 50)
    for before in (now - 100, now - 300):
        result = await api.call(pair[1], "revoke", user=user, before_ms=before * 1000)
        assert result == {"before_ms": before * 1000}
    assert (await old.closed())[0] == 3500
    await _unharmed(newer)
    for node in pair:
        await refused(node.url, token(user, iat=now - 100))
        await refused(node.url, token(user, iat=now - 200))
        async with signed_in(node.url, user, iat=now - 99):
            pass


async def test_subscription_tokens_are_revoked_too(
    pair: Nodes, enter: Enter, redis: Redis, name: Name
) -> None:
    """What one of them allowed ends, even where the connection's own token is newer."""
    user, now, channel, newer = someone(), from_now(0), name("token"), name("token")
    client = await enter(pair[0], user, iat=now)
    old = token(user, channel=channel, iat=now - 60)
    await client.subscribe(channel, token=old)
    await client.subscribe(newer, token=token(user, channel=newer, iat=now))
    await api.call(pair[1], "revoke", user=user, before_ms=int((now - 30) * 1000))
    push = await client.next_push()
    assert (push["channel"], push["unsubscribe"]["code"]) == (channel, 2000)
    assert (await client.error("subscribe", channel=channel, token=old))["code"] == 103
    await client.subscribe(channel, token=token(user, channel=channel, iat=now))
    assert (await client.error("sub_refresh", channel=channel, token=old))["code"] == 103
    for name_ in (channel, newer):
        await add(redis, name_, "still here")
        assert await client.next_data(name_) == "still here"


async def test_what_was_said_while_a_node_could_not_hear(pair: Nodes, enter: Enter) -> None:
    """A node that stood still hears of a revocation when it goes on."""
    user, now = someone(), from_now(0)
    client = await enter(pair[1], user, iat=now - 60)
    pair[1].pause()
    try:
        await api.call(pair[0], "revoke", user=user)
    finally:
        pair[1].resume()
    assert (await client.closed())[0] == 3500
    await refused(pair[1].url, token(user, iat=now - 60))


# Who may call, and what


async def test_a_redis_that_was_emptied(start_node: StartNode, start_redis: StartRedis) -> None:
    """Nodes write down anew what they know to be revoked, for those that start later."""
    process, user = start_redis(), someone()
    issued = from_now(-10)
    async with redis_client(process.url) as redis:
        node = await start_node(process.url, SETTINGS)
        await api.call(node, "revoke", user=user)
        await refused(node.url, token(user, iat=issued))  # it has heard
        await redis.flushall()

        async def is_written_down() -> bool:
            return await redis.zscore("streamgate:revocations:{}", user) is not None

        await eventually(is_written_down, "the revocation is there again")
        later = await start_node(process.url, SETTINGS)
        await refused(later.url, token(user, iat=issued))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": api.KEY + "x"},
        {"X-API-Key": api.KEY[:-1]},
        {"X-API-Key": api.KEY.upper()},
        {"X-API-Key": f"{api.KEY}, {api.OTHER_KEY}"},
        {"Authorization": f"apikey {api.KEY}"},
    ],
    ids=str,
)
async def test_calls_without_a_good_key(pair: Nodes, enter: Enter, headers: dict[str, str]) -> None:
    """401, whatever is called; and nothing is done."""
    user = someone()
    client = await enter(pair[0], user)
    for path in ("disconnect", "revoke", "no-such-method", "chat.purge"):
        answer = await api.post(pair[0], f"/api/{path}", json.dumps({"user": user}).encode(), headers)
        assert (answer.status, answer.body["error"]["code"]) == (401, 101)
        assert api.KEY not in str(answer.body)
    await _unharmed(client)


async def test_two_keys_at_once(pair: Nodes, enter: Enter) -> None:
    """So that they can be rolled."""
    user = someone()
    client = await enter(pair[1], user)
    body = json.dumps({"user": user}).encode()
    answer = await api.post(pair[0], "/api/disconnect", body, {"x-api-key": api.OTHER_KEY})
    assert (answer.status, answer.body) == (200, {"result": {}})
    assert (await client.closed())[0] == 3503


async def test_no_key_is_configured(start_node: StartNode, redis_process: RedisProcess) -> None:
    """The API is off: no key is good, and none is none."""
    node = await start_node(redis_process.url)
    for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": api.KEY}):
        answer = await api.post(node, "/api/disconnect", b'{"user":"ann"}', headers)
        assert answer.status == 401
        assert answer.body["error"]["message"] == "the API is off: no key is configured in [api]"


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b'"user"', b"\xff", b"[" * 100_000, b'{"user":NaN}']
)
async def test_requests_that_are_no_json_object(pair: Nodes, content: bytes) -> None:
    answer = await api.post(pair[0], "/api/disconnect", content, {"X-API-Key": api.KEY})
    assert (answer.status, answer.body["error"]["code"]) == (400, 107)


async def test_a_request_that_is_too_large(pair: Nodes) -> None:
    content = json.dumps({"user": "x" * (1 << 20)}).encode()
    answer = await api.post(pair[0], "/api/disconnect", content, {"X-API-Key": api.KEY})
    assert (answer.status, answer.body["error"]["code"]) == (413, 107)
    assert "1048576" in answer.body["error"]["message"]
    await api.call(pair[0], "disconnect", user="x" * 1000)


@pytest.mark.parametrize("method", ["nothing", "connect", "__class__", "chat.nothing", "chat.", "Disconnect"])
async def test_unknown_methods(pair: Nodes, method: str) -> None:
    answer = await api.post(pair[0], f"/api/{method}", b"{}", {"X-API-Key": api.KEY})
    assert (answer.status, answer.body["error"]["code"]) == (404, 104)


async def test_the_public_port_has_no_api(pair: Nodes) -> None:
    node = pair[0]
    public = type(node).__new__(type(node))
    public.admin_port = node.port
    answer = await api.post(public, "/api/disconnect", b'{"user":"ann"}', {"X-API-Key": api.KEY})
    assert answer.status == 404


async def test_keys_in_files(start_node: StartNode, redis_process: RedisProcess, tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text(api.KEY + "\n")
    node = await start_node(redis_process.url, {"api": {"key_files": [str(file)]}})
    await api.call(node, "disconnect", user="ann")
    assert api.KEY not in node.log


async def test_commands_are_counted(pair: Nodes) -> None:
    before = [await node.metric("streamgate_control_commands_total", command="disconnect") for node in pair]
    await api.call(pair[0], "disconnect", user=someone())
    for node, count in zip(pair, before, strict=True):

        async def carried_out(node: NodeProcess = node, count: float = count) -> bool:
            return await node.metric("streamgate_control_commands_total", command="disconnect") > count

        await eventually(carried_out, "every node has carried it out")


async def test_commands_of_another_version(pair: Nodes, redis: Redis, enter: Enter) -> None:
    """What a node does not know, or cannot read, it passes over; the next is heard."""
    user = someone()
    client = await enter(pair[1], user)
    key = "streamgate:control:{}"
    assert await redis.exists(key)
    for data in ("{}", "[]", "5", '{"command":"dance"}', '{"command":"disconnect","user":5}', "no json"):
        await redis.xadd(key, {"data": data})
    await redis.xadd(key, {"price": "5"})
    await redis.xadd(key, {"_join": "{}"})
    await api.call(pair[0], "disconnect", user=user)
    assert (await client.closed())[0] == 3503
