"""When what a token allows ends, and how it goes on with a new one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.checker import add
from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, from_now, refused, someone, token
from tests.support.ws_client import Json, open_client

Name = Callable[[str], str]


NAMESPACES: Json = {
    "open": {"mode": "log", "history_size": 0},
    "token": {"mode": "log", "history_size": 0, "subscribe": "token"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(redis_process: RedisProcess) -> AsyncIterator[NodeProcess]:
    async with running(redis_process.url, {"tokens": TOKENS, "namespaces": NAMESPACES}) as (node,):
        yield node


async def test_a_connection_ends_with_its_token(gate: NodeProcess) -> None:
    end = from_now(1.2)
    async with open_client(gate.url, connect=False) as client:
        hello = await client.connect(token=token(someone(), exp=end))
        assert (hello["expires"], hello["ttl"]) == (True, 1)
        assert await client.closed() == (3005, "expired")
        assert 0 <= time.time() - end < 2


async def test_a_refresh_keeps_the_connection(gate: NodeProcess, redis: Redis, name: Name) -> None:
    user, channel = someone(), name("open")
    async with (
        open_client(gate.url, connect=False) as other,
        open_client(gate.url, connect=False) as client,
    ):
        end = from_now(1)
        await client.connect(token=token(user, exp=end))
        await client.subscribe(channel)
        result = await client.call("refresh", token=token(user, exp=from_now(60)))
        assert result["client"] == client.hello["client"]
        assert result["expires"] is True
        assert 58 <= result["ttl"] <= 60
        # Another one with the same end shows when that has passed.
        await other.connect(token=token(user, exp=end + 0.2))
        assert (await other.closed())[0] == 3005
        await add(redis, channel, "still here")
        assert await client.next_data(channel) == "still here"
        assert "expires" not in await client.call("refresh", token=token(user))


async def test_the_leeway(start_node: StartNode, redis_process: RedisProcess) -> None:
    """Clocks may differ by so much, either way."""
    node = await start_node(redis_process.url, {"tokens": TOKENS | {"leeway_seconds": 30}})
    async with open_client(node.url, connect=False) as client:
        await client.connect(token=token(someone(), exp=from_now(-20), nbf=from_now(20), iat=from_now(20)))
        await client.call("history", channel="log:x")
    await refused(node.url, token(someone(), nbf=from_now(40)))
    async with open_client(node.url, connect=False) as client:
        assert (await client.error("connect", token=token(someone(), exp=from_now(-40))))["code"] == 109
        await client.connect(token=token(someone(), exp=from_now(-29)))
        assert (await client.closed())[0] == 3005


async def test_a_refresh_by_another(gate: NodeProcess) -> None:
    before = await gate.metric("streamgate_auth_failures_total", reason="wrong_user")
    for user, other in ((someone(), someone("bob")), (someone(), ""), ("", someone())):
        async with open_client(gate.url, connect=False) as client:
            await client.connect(**({"token": token(user)} if user else {}))
            await client.send_raw(json.dumps({"id": 99, "refresh": {"token": token(other)}}))
            assert (await client.closed())[0] == 3500
    assert await gate.metric("streamgate_auth_failures_total", reason="wrong_user") == before + 3


@pytest.mark.parametrize(
    ("bad", "code"),
    [(lambda user: "not a token", 3500), (lambda user: token(user, channel="token:x"), 3500)],
    ids=["malformed", "wrong kind"],
)
async def test_a_refresh_that_is_notoken(gate: NodeProcess, bad: Callable[[str], str], code: int) -> None:
    user = someone()
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user, exp=from_now(60)))
        await client.send_raw(json.dumps({"id": 99, "refresh": {"token": bad(user)}}))
        assert (await client.closed())[0] == code
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user, exp=from_now(60)))
        assert (await client.error("refresh", token=token(user, exp=from_now(-1))))["code"] == 109
        assert (await client.error("refresh", token=""))["code"] == 107
        await client.call("refresh", token=token(user))


async def test_a_subscription_ends_with_its_token(gate: NodeProcess, redis: Redis, name: Name) -> None:
    user, short, long, free = someone(), name("token"), name("token"), name("open")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user))
        await client.subscribe(free)
        await client.subscribe(long, token=token(user, channel=long, exp=from_now(60)))
        end = from_now(1.2)
        result = await client.subscribe(short, token=token(user, channel=short, exp=end))
        assert (result["expires"], result["ttl"]) == (True, 1)
        push = await client.next_push()
        assert push == {"channel": short, "unsubscribe": {"code": 2501, "reason": "expired"}}
        assert 0 <= time.time() - end < 2
        for channel in (short, long, free):
            await add(redis, channel, channel)
        assert sorted([(await client.next_push())["channel"] for _ in range(2)]) == sorted([long, free])
        assert (await client.error("subscribe", channel=short))["code"] == 103
        await client.subscribe(short, token=token(user, channel=short))


async def test_a_subscription_refresh_keeps_it(gate: NodeProcess, redis: Redis, name: Name) -> None:
    user, kept, lost = someone(), name("token"), name("token")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user))
        end = from_now(1)
        await client.subscribe(kept, token=token(user, channel=kept, exp=end))
        await client.subscribe(lost, token=token(user, channel=lost, exp=end + 0.2))
        new = token(user, channel=kept, exp=from_now(60))
        result = await client.call("sub_refresh", channel=kept, token=new)
        assert result["expires"] is True
        assert 58 <= result["ttl"] <= 60
        assert (await client.next_push())["channel"] == lost
        await add(redis, kept, "still here")
        assert await client.next_data(kept) == "still here"


async def test_subscription_refreshes_that_are_notoken(gate: NodeProcess, name: Name) -> None:
    user, channel, free = someone(), name("token"), name("open")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user))
        good = token(user, channel=channel)
        assert (await client.error("sub_refresh", channel=channel, token=good))["code"] == 103  # has none
        await client.subscribe(channel, token=good)
        for bad, code in (
            ("", 103),
            ("not a token", 103),
            (token(user), 103),
            (token(user, channel=free), 103),
            (token(someone("bob"), channel=channel), 103),
            (token(user, channel=channel, exp=from_now(-1)), 109),
        ):
            assert (await client.error("sub_refresh", channel=channel, token=bad))["code"] == code
        assert await client.call("sub_refresh", channel=channel, token=good) == {}
