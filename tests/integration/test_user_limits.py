"""Bounds on what one user does on all nodes, and on how fast a node is come to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import SECRET, TOKENS, refused_with, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]


def _limited(rate: float, burst: int, **more: int) -> Json:
    return {
        "mode": "log",
        "history_size": 0,
        "publish": "anonymous",
        "publish_rate": rate,
        "publish_burst": burst,
        **more,
    }


SETTINGS: Json = {
    "tokens": TOKENS,
    "limits": {
        "connections_per_user": 3,
        "refusals_per_second": 0.01,
        "refusals_burst": 10,
        "publication_bytes": 2000,
    },
    "namespaces": {
        "slow": _limited(2, 4),
        "other": _limited(2, 4),
        "free": {"mode": "log", "history_size": 0, "publish": "anonymous"},
        "small": {"mode": "log", "history_size": 0, "publish": "anonymous", "publication_bytes": 100},
        "room": {
            "mode": "log",
            "publish": "authenticated",
            "chat": True,
            "publish_rate": 1,
            "publish_burst": 3,
        },
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


# Connections of a user


async def test_connections_of_a_user_over_nodes(pair: Nodes) -> None:
    """The newest is closed for good; another user, or nobody in particular, is not concerned."""
    user = someone()
    async with AsyncExitStack() as stack:
        first, second, third = [
            await stack.enter_async_context(signed_in(pair[turn % 2].url, user)) for turn in range(3)
        ]
        for node in pair:
            await refused_with(3504, node.url, token(user))
            await stack.enter_async_context(signed_in(node.url, someone("bob")))
            for _ in range(4):
                await stack.enter_async_context(open_client(node.url))
        for client in (first, second, third):
            await client.call("history", channel="free:x")
        # Whoever goes makes room: at once where it says so, and where it is cut off.
        await second.aclose()
        await _comes_in(stack, pair[0], user)
        first.cut()
        await _comes_in(stack, pair[1], user)
        await refused_with(3504, pair[0].url, token(user))


async def _comes_in(stack: AsyncExitStack, node: NodeProcess, user: str) -> Client:
    """The node that was left has to notice that first, so this asks again."""
    inside: list[Client] = []

    async def connected() -> bool:
        client = await stack.enter_async_context(open_client(node.url, connect=False))
        number = client.next_id()
        await client.send_raw(f'{{"id":{number},"connect":{{"token":"{token(user)}"}}}}')
        await asyncio.wait(
            [asyncio.ensure_future(client.reply(number)), asyncio.ensure_future(client.closed())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        inside.append(client)
        return not client.is_closed

    await eventually(connected, "there is room again")
    return inside[-1]


async def test_reloading_is_no_second_connection(pair: Nodes) -> None:
    """With all connections taken, a user who loads a page again gets in, again and again."""
    user = someone()
    async with signed_in(pair[0].url, user), signed_in(pair[1].url, user), AsyncExitStack() as stack:
        for turn in range(5):
            client = await _comes_in(stack, pair[turn % 2], user)
            await client.aclose()


async def test_a_connection_refused_is_not_counted(pair: Nodes) -> None:
    user = someone()
    async with signed_in(pair[0].url, user), signed_in(pair[1].url, user):
        async with signed_in(pair[0].url, user):
            for node in (*pair, *pair):
                await refused_with(3504, node.url, token(user))
        async with AsyncExitStack() as stack:
            await _comes_in(stack, pair[1], user)
        for _ in range(5):
            await refused_with(3500, pair[0].url, token(user, key=SECRET[::-1]))
        async with AsyncExitStack() as stack:
            await _comes_in(stack, pair[0], user)


async def test_crowds_of_one_user(pair: Nodes) -> None:
    """Many at once, on both nodes: never more than the limit are in."""
    user = someone()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(pair[turn % 2].url, connect=False))
            for turn in range(20)
        ]

        async def connects(client: Client) -> bool:
            number = client.next_id()
            await client.send_raw(f'{{"id":{number},"connect":{{"token":"{token(user)}"}}}}')
            try:
                await client.reply(number)
            except Exception:
                return False
            return True

        assert sum(await asyncio.gather(*map(connects, clients))) <= 3


# Publications of a user


async def test_the_rate_of_a_user_over_nodes(pair: Nodes, redis: Redis, name: Name) -> None:
    """Two clients of a user on two nodes share a bucket; another user has its own, another prefix too."""
    user, channel = someone(), name("slow")
    async with signed_in(pair[0].url, user) as one, signed_in(pair[1].url, user) as two:
        started = time.monotonic()
        answers = [await client.command("publish", channel=channel, data=1) for client in (one, two) * 6]
        took = time.monotonic() - started
        errors = [answer["error"] for answer in answers if "error" in answer]
        passed = len(answers) - len(errors)
        assert 4 <= passed <= 4 + 2 * took + 1
        assert await redis.xlen(channel) == passed
        for error in errors:
            assert (error["code"], error["temporary"]) == (111, True)
            assert 0 < error["retry_after"] <= 0.5
        async with signed_in(pair[0].url, someone("bob")) as other, open_client(pair[1].url) as anonymous:
            for client in (other, anonymous):
                await client.call("publish", channel=channel, data=1)
        await one.call("publish", channel=name("other"), data=1)
        await one.call("publish", channel=name("free"), data=1)


async def test_retry_after_is_true(pair: Nodes, name: Name) -> None:
    """Not before, and then indeed, on the other node."""
    user, channel = someone(), name("slow")
    async with signed_in(pair[0].url, user) as one, signed_in(pair[1].url, user) as two:
        for _ in range(4):
            answer = await one.command("publish", channel=channel, data=1)
        while "error" not in answer:
            answer = await one.command("publish", channel=channel, data=1)
        told = time.monotonic()
        wait = answer["error"]["retry_after"]
        assert 0 < wait <= 0.5
        await asyncio.sleep(wait + 0.001)
        answer = await two.command("publish", channel=channel, data=1)
        assert "error" not in answer, (answer, time.monotonic() - told)


async def test_each_anonymous_client_has_its_own(pair: Nodes, name: Name) -> None:
    channel = name("slow")
    for node in pair:
        async with open_client(node.url) as client:
            answers = [await client.command("publish", channel=channel, data=1) for _ in range(8)]
            assert all("error" not in answer for answer in answers[:4])
            assert "error" in answers[-1]


async def test_chat_counts_alike(pair: Nodes, redis: Redis, name: Name) -> None:
    """By `publish` and by `chat.send`: one bucket."""
    user, channel = someone(), name("room")
    async with signed_in(pair[0].url, user) as one, signed_in(pair[1].url, user) as two:
        message = {"channel": channel, "text": "hello"}
        answers = []
        for _ in range(4):
            answers.append(await one.command("publish", channel=channel, data={"text": "hello"}))
            answers.append(await two.command("rpc", method="chat.send", data=message))
        refusals = [answer["error"]["code"] for answer in answers if "error" in answer]
        assert set(refusals) == {111}
        assert 3 <= len(answers) - len(refusals) <= 5
        assert await redis.xlen(channel) == len(answers) - len(refusals)


async def test_reactions_count_too(pair: Nodes, name: Name) -> None:
    """Each goes to the whole room, as a message does."""
    channel = name("room")
    async with signed_in(pair[0].url, someone()) as client:
        sent = await client.call("rpc", method="chat.send", data={"channel": channel, "text": "hello"})
        reaction = {"channel": channel, "id": sent["data"]["id"], "key": "a"}
        answers = [
            await client.command("rpc", method="chat.react", data=reaction | {"remove": bool(turn % 2)})
            for turn in range(8)
        ]
    refusals = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert set(refusals) == {111}
    assert len(refusals) >= 5


async def test_who_goes_on_is_closed(pair: Nodes, name: Name) -> None:
    """Refusals are few; who asks for ever more of them is closed for good."""
    async with signed_in(pair[0].url, someone()) as client, signed_in(pair[0].url, someone()) as other:
        channel = name("slow")
        with contextlib.suppress(ConnectionClosed):  # it may be closed while it sends
            for _ in range(100):
                number = client.next_id()
                await client.send_raw(f'{{"id":{number},"publish":{{"channel":"{channel}","data":1}}}}')
                await other.call("history", channel=channel)
        assert await client.closed() == (3509, "too many errors")
        codes = [message for message in client.messages if '"code":111' in str(message)]
        assert 10 <= len(codes) <= 12


# Sizes


@pytest.mark.parametrize(("namespace", "most"), [("small", 100), ("free", 2000)])
async def test_publication_bytes_of_a_namespace(
    pair: Nodes, redis: Redis, name: Name, namespace: str, most: int
) -> None:
    """Its own bound, or else that of all; of JSON as it is written."""
    channel = name(namespace)
    async with signed_in(pair[0].url, someone()) as client, open_client(pair[1].url) as reader:
        await reader.subscribe(channel)
        error = await client.error("publish", channel=channel, data="x" * (most - 1))
        assert error["code"] == 106
        assert str(most) in error["message"]
        await client.call("publish", channel=channel, data="x" * (most - 2))
        assert await reader.next_data(channel) == "x" * (most - 2)
    assert await redis.xlen(channel) == 1


# How fast a node is come to


async def test_connects_per_second(start_node: StartNode, redis_process: RedisProcess) -> None:
    """Beyond: 503, each with a later time at which there is room; and then there is."""
    node = await start_node(redis_process.url, {"limits": {"connects_per_second": 2, "connects_burst": 5}})
    started = time.monotonic()
    waits: list[int] = []
    statuses: set[int] = set()
    async with AsyncExitStack() as stack:
        accepted = 0
        for _ in range(12):
            try:
                await stack.enter_async_context(open_client(node.url))
                accepted += 1
            except InvalidStatus as exc:
                waits.append(int(exc.response.headers["Retry-After"]))
                statuses.add(exc.response.status_code)
        took = time.monotonic() - started
        assert 5 <= accepted <= 5 + 2 * took + 1
        assert statuses == {503}
        assert waits == sorted(waits)
        assert waits[0] == 1
        assert 2 <= waits[-1] <= 4
        assert await node.metric("streamgate_admission_rejected_total", reason="rate") == len(waits)
        assert await node.ready()
        await asyncio.sleep(waits[0])
        await stack.enter_async_context(open_client(node.url))
