"""Clients that mean harm: they get errors or closes, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed

from tests.support.checker import add, add_many
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.raw_client import BINARY, RawClient, frame
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]

SETTINGS: Json = {
    "tokens": TOKENS,
    # The shipped bounds: others of these tests' nodes are without.
    "limits": {"commands_per_second": 100, "commands_burst": 500},
    "namespaces": {
        "feed": {"mode": "log", "history_size": 0},
        "table": {"mode": "latest", "snapshot": True},
        "inbox": {"mode": "log", "personal": True, "subscribe": "authenticated", "history": "authenticated"},
        "secret": {"mode": "log", "subscribe": "token", "history": "token", "presence": "token"},
        "wall": {"mode": "log", "publish": "anonymous", "presence": "anonymous", "join_leave": True},
        "room": {"mode": "log", "publish": "anonymous", "presence": "anonymous", "chat": True},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def _node(redis_process: RedisProcess) -> AsyncIterator[NodeProcess]:
    async with running(redis_process.url, SETTINGS) as (node,):
        yield node


@pytest_asyncio.fixture
async def target(_node: NodeProcess, redis: Redis, name: Name) -> AsyncIterator[NodeProcess]:
    """A node with a client who was there before the harm, and is served as ever after it."""
    channel, wall = name("feed"), name("wall")
    async with signed_in(_node.url, someone("bystander")) as bystander:
        await bystander.subscribe(channel)
        await bystander.subscribe(wall)
        yield _node
        await add(redis, channel, "as ever")
        assert await bystander.next_data(channel, 5) == "as ever"
        await bystander.call("publish", 5, channel=wall, data="as ever")
        assert await bystander.next_data(wall, 5) == "as ever"
    assert await _node.ready()


async def _close_code(client: RawClient) -> int | None:
    """How it ends, whatever comes before; None: without a word."""
    while (found := await client.next_frame()) is not None:
        if found.opcode == 0x8:
            return found.close_code
    return None


# Frames and floods


async def test_giant_frames(target: NodeProcess) -> None:
    """Refused by their header: nothing is kept of what may come."""
    before = await target.metric("process_resident_memory_bytes")
    for head in (
        b"\x81\xff" + (2**62).to_bytes(8, "big"),
        b"\x81\xff" + (2**31).to_bytes(8, "big"),
        b"\x01\xff" + (10**9).to_bytes(8, "big"),
    ):
        async with await RawClient.open(target.port) as client:
            await client.send(head + b"mask")
            try:
                await client.send(b"x" * 1_000_000)
            except ConnectionError:
                pass  # it is closed already
            assert await _close_code(client) in (1009, None)
    assert await target.metric("process_resident_memory_bytes") - before < 50e6


async def test_a_message_of_many_small_frames(target: NodeProcess) -> None:
    async with await RawClient.open(target.port) as client:
        await client.send(frame(b" ", final=False))
        try:
            for _ in range(300):
                await client.send(frame(b" " * 1000, 0x0, final=False))
        except ConnectionError:
            pass
        assert await _close_code(client) in (1009, None)


async def test_frames_that_make_no_sense(target: NodeProcess) -> None:
    for data in (
        frame(b"{}", masked=False),
        frame(b"\xff\xfe"),
        frame(b"{}", 0x3),
        frame(b"x" * 126, 0x9),
        frame(b"", 0x0),
        frame(b"\x00\x01", BINARY),
        b"\xff" * 100,
        frame(b"GET / HTTP/1.1\r\n\r\n"),
    ):
        async with await RawClient.open(target.port) as client:
            await client.send(data)
            assert await _close_code(client) in (1002, 1007, 3501, 3506, None)


async def _closed(node: NodeProcess, code: int) -> float:
    return await node.metric("streamgate_connections_closed_total", code=str(code))


async def _has_closed(node: NodeProcess, code: int, before: float) -> bool:
    return await _closed(node, code) == before + 1


@asynccontextmanager
async def _attacker(node: NodeProcess, user: str = "") -> AsyncIterator[Client]:
    async with open_client(node.url, connect=False) as client:
        await client.connect(**({"token": token(user)} if user else {}))
        yield client


async def test_a_thousand_subscribes(target: NodeProcess, name: Name) -> None:
    """In one frame: 128 are had, the others are refused, and who gets so many refusals is closed."""
    channel = name("feed")
    async with _attacker(target, someone()) as client:
        commands = [{"id": 1000 + n, "subscribe": {"channel": f"{channel}-{n}"}} for n in range(1000)]
        await client.send_raw("\n".join(map(json.dumps, commands)))
        assert await client.closed() == (3509, "too many errors")
        replies = [json.loads(line) for message in client.messages[1:] for line in str(message).split("\n")]
        assert sum("subscribe" in reply for reply in replies) <= 128
        assert {reply["error"]["code"] for reply in replies if "error" in reply} <= {106}
    assert await target.metric("streamgate_subscriptions") <= 10


@pytest.mark.parametrize(
    "command",
    [
        {"publish": {"channel": "feed:x", "data": 1}},
        {"subscribe": {"channel": "secret:x"}},
        {"subscribe": {"channel": "secret:x", "token": "no.such.token"}},
        {"history": {"channel": "secret:x", "limit": -1}},
        {"rpc": {"method": "chat.ban", "data": {"channel": "room:x", "user": "bob"}}},
        {"rpc": {"method": "no.such.method", "data": {}}},
        {"refresh": {}},
        {"presence": {"channel": "wall:x"}},
    ],
    ids=lambda command: json.dumps(command)[:40],
)
async def test_floods(target: NodeProcess, command: Json) -> None:
    """Ten thousand of the same, as fast as can be: closed for good, long before they are through."""
    before = await _closed(target, 3509)
    async with _attacker(target, someone()) as client:
        try:
            for start in range(0, 10_000, 500):
                lines = [json.dumps({"id": 1000 + start + n} | command) for n in range(500)]
                await client.send_raw("\n".join(lines))
        except ConnectionClosed:
            pass
        # Who writes on may be cut off before it has read why.
        assert (await client.closed())[0] in (3509, 1006)
    await eventually(lambda: _has_closed(target, 3509, before), "the node has closed it")
    assert not target.log.count("no.such.token")


async def test_connects_without_end(target: NodeProcess) -> None:
    """Refused ones, over one connection."""
    before = await _closed(target, 3509)
    async with open_client(target.url, connect=False) as client:
        bad = token(someone(), exp=1)
        try:
            for number in range(1, 2000):
                await client.send_raw(json.dumps({"id": number, "connect": {"token": bad}}))
        except ConnectionClosed:
            pass
        # Who writes on may be cut off before it has read why.
        assert (await client.closed())[0] in (3509, 1006)
    await eventually(lambda: _has_closed(target, 3509, before), "the node has closed it")


async def test_a_crowd_that_comes_and_goes(target: NodeProcess, name: Name) -> None:
    """Subscribed, and cut off in the middle of it."""
    channel = name("room")

    async def visit(number: int) -> None:
        async with open_client(target.url, connect=False) as client:
            await client.send_raw(
                '{"id":1,"connect":{}}\n' + json.dumps({"id": 2, "subscribe": {"channel": channel}})
            )
            if number % 2:
                await client.reply(2)
            client.cut()

    for _ in range(5):
        await asyncio.gather(*map(visit, range(40)))


# Who one is not


async def test_forged_info(target: NodeProcess, name: Name) -> None:
    """What others see of a client is what the server knows: of a publication, a message, a join."""
    user, wall, room = someone(), name("wall"), name("room")
    forged = {
        "user": "admin",
        "client": "fake",
        "conn_info": {"name": "Admin"},
        "chan_info": {"role": "owner"},
    }
    async with (
        signed_in(target.url, user, info={"name": "Ann"}) as reader,
        open_client(target.url, connect=False) as forger,
    ):
        await reader.subscribe(wall, join_leave=True)
        await reader.subscribe(room)
        for _ in range(2):
            assert (await reader.next_push())["join"]["info"]["user"] == user
        await forger.connect(data=forged, info=forged, user="admin", client="fake", headers=forged)
        real = {"client": forger.hello["client"]}
        assert real["client"] != "fake"
        for channel in (wall, room):
            await forger.subscribe(channel, info=forged, data=forged, chan_info=forged)
            push = await reader.next_push()
            assert (push["channel"], push["join"]["info"]) == (channel, real)
        await forger.call("publish", channel=wall, data={"info": forged}, info=forged, tags={"snapshot": "1"})
        publication = await reader.next_publication(wall)
        assert publication["info"] == real
        assert "tags" not in publication
        message = {"channel": room, "text": "I am the admin", "info": forged, "user": "admin", "id": "1-1"}
        await forger.call("rpc", method="chat.send", data=message | {"as_user": "admin"})
        await forger.call("publish", channel=room, data=message)
        for _ in range(2):
            publication = await reader.next_publication(room)
            assert publication["info"] == real
            assert "info" not in publication["data"]
            assert "user" not in publication["data"]
        for channel in (wall, room):
            members = (await reader.call("presence", channel=channel))["presence"]
            assert members[real["client"]] == real
            assert "fake" not in members
        history = await reader.call("history", channel=wall, limit=-1)
        assert [publication["info"] for publication in history["publications"]] == [real]


async def test_publishing_into_feeds(target: NodeProcess, redis: Redis, name: Name) -> None:
    """Closed to clients, whatever a token says."""
    everything = [{"channels": ["*"], "match": "wildcard", "allow": ["sub", "pub", "hst", "prs", "mod"]}]
    for namespace in ("feed", "table"):
        channel = name(namespace)
        async with signed_in(target.url, someone(), caps=everything) as client:
            await client.subscribe(channel)
            assert (await client.error("publish", channel=channel, data={"price": 0}))["code"] == 103
            for method in ("chat.send", "chat.edit", "chat.delete", "chat.purge", "chat.set_room"):
                data = {"channel": channel, "text": "x", "id": "1-1", "user": "bob", "title": "x"}
                assert (await client.error("rpc", method=method, data=data))["code"] in (103, 108)
        assert await redis.exists(channel) == 0


async def test_reading_what_is_anothers(target: NodeProcess, redis: Redis, name: Name) -> None:
    """A personal channel, and rooms for which one has no token: by every way there is."""
    victim, secret = someone("victim"), name("secret")
    inbox = f"inbox:{victim}"
    written = [await add_many(redis, channel, ["private"]) for channel in (inbox, secret)]
    async with signed_in(target.url, someone("mallory")) as client, open_client(target.url) as anonymous:
        for channel in (inbox, secret):
            tries: list[tuple[str, Json]] = [
                ("subscribe", {}),
                ("subscribe", {"recover": True, "offset": 1, "epoch": "x"}),
                ("subscribe", {"token": token(victim, channel=channel)}),
                ("subscribe", {"token": token(victim)}),
                ("history", {"limit": -1}),
                ("history", {"limit": 1, "reverse": True}),
                ("presence", {}),
                ("presence_stats", {}),
                ("publish", {"data": 1}),
                ("sub_refresh", {"token": token(victim, channel=channel)}),
            ]
            for attacker in (client, anonymous):
                for method, params in tries:
                    reply = await attacker.command(method, channel=channel, **params)
                    assert reply["error"]["code"] == 103, (method, params, reply)
                    assert "private" not in json.dumps(reply)
                for method in ("chat.history", "chat.room", "chat.reads"):
                    error = await attacker.error("rpc", method=method, data={"channel": channel})
                    assert error["code"] in (103, 108)
                await add(redis, channel, "private too")
                await attacker.command("ping")
                assert attacker.pushes_now() == []
    assert all(written)


async def test_reading_what_is_the_services(target: NodeProcess, name: Name) -> None:
    """Keys beside the streams are no channels: commands to all nodes, live streams, revocations."""
    room = name("room")
    async with signed_in(target.url, someone(), caps=[{"channels": ["a"], "allow": ["sub"]}]) as client:
        await client.subscribe(room)
        for channel in (
            "streamgate:control:{}",
            "streamgate:control:",
            "streamgate:live:{" + room + "}",
            "streamgate:revocations:{}",
            "streamgate:nodes:{}",
            "streamgate:x",
        ):
            for method in ("subscribe", "history", "presence", "publish"):
                reply = await client.command(method, channel=channel, data={"command": "disconnect"})
                assert reply["error"]["code"] == 102
    async with open_client(target.url, connect=False) as client:
        bad = token(someone(), channels=["streamgate:control"])
        assert (await client.error("connect", token=bad))["code"] == 107


async def test_commands_while_not_connected(target: NodeProcess, name: Name) -> None:
    """Nothing is done for who has not been let in."""
    channel = name("wall")
    for first in ({"publish": {"channel": channel, "data": 1}}, {"subscribe": {"channel": channel}}):
        async with open_client(target.url, connect=False) as client:
            await client.send_raw(json.dumps({"id": 1} | first))
            assert (await client.closed())[0] == 3501
        async with open_client(target.url, connect=False) as client:
            bad = {"id": 1, "connect": {"token": "no token"}}
            await client.send_raw(json.dumps(bad) + "\n" + json.dumps({"id": 2} | first))
            assert (await client.closed())[0] == 3500
            assert client.messages == []
        async with open_client(target.url, connect=False) as client:
            old = {"id": 1, "connect": {"token": token(someone(), exp=1)}}
            await client.send_raw(json.dumps(old) + "\n" + json.dumps({"id": 2} | first))
            assert (await client.reply(2))["error"]["code"] == 101
            assert len(client.messages) <= 2
    async with open_client(target.url) as client:
        assert "publications" not in await client.call("history", channel=channel, limit=-1)


async def test_all_at_once(target: NodeProcess, name: Name) -> None:
    """Many such clients together, while the bystander is served."""

    async def flood(number: int) -> None:
        async with _attacker(target, someone() if number % 2 else "") as client:
            command = {"publish": {"channel": "feed:x", "data": "x" * 1000}}
            try:
                for start in range(1000, 3000, 100):
                    lines = [json.dumps({"id": start + n} | command) for n in range(100)]
                    await client.send_raw("\n".join(lines))
            except ConnectionClosed:
                pass
            await client.closed()

    attackers: list[Awaitable[None]] = [flood(number) for number in range(20)]
    async with AsyncExitStack() as stack:
        friend = await stack.enter_async_context(signed_in(target.url, someone("friend")))
        under_way = asyncio.gather(*attackers)
        wall = name("wall")
        await friend.subscribe(wall)
        for number in range(20):
            await friend.call("publish", 5, channel=wall, data=number)
            assert await friend.next_data(wall, 5) == number
        await under_way
