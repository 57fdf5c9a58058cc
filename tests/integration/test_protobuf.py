"""Protobuf over WebSocket, on the wire: the same commands, answers and endings as in JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support import protobuf
from tests.support.checker import add, add_many
from tests.support.node import NodeProcess
from tests.support.waiting import DEADLINE
from tests.support.ws_client import Json, dial, open_client

Name = Callable[[str], str]

_SUBPROTOCOL: Any = ["centrifuge-protobuf"]


class _Client:
    """One connection: answers and pushes in order, read as the JSON they would have been."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._read: list[Json] = []

    async def send(self, number: int, **methods: Json) -> None:
        await self.connection.send(protobuf.command(number, **methods))

    async def receive(self) -> str | bytes:
        """The next frame."""
        return await asyncio.wait_for(self.connection.recv(), DEADLINE)

    async def next(self) -> Json:
        """What comes next; pings are answered."""
        while not self._read:
            message = await self.receive()
            assert isinstance(message, bytes), "a text frame on a Protobuf connection"
            self._read += protobuf.replies(message)
            while self._read and not self._read[0]:
                del self._read[0]
                await self.connection.send(b"\0")
        return self._read.pop(0)

    async def call(self, number: int, **methods: Json) -> Json:
        """The result of a command, or its error."""
        await self.send(number, **methods)
        answer = await self.next()
        assert answer.pop("id") == number, answer
        ((_, result),) = answer.items()
        return dict(result)

    async def closed(self) -> int | None:
        """The code that the connection is closed with."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self.connection.close_code


@asynccontextmanager
async def _open(
    url: str, *, connect: bool = True, subprotocols: Any = _SUBPROTOCOL
) -> AsyncIterator[_Client]:
    connection = await dial(url, subprotocols=subprotocols)
    try:
        client = _Client(connection)
        if connect:
            assert (await client.call(1, connect={}))["pong"] is True
        yield client
    finally:
        await connection.close()


@pytest.mark.parametrize("query", ["format=protobuf", "cf_protocol=protobuf"])
async def test_by_its_address(node: NodeProcess, query: str) -> None:
    """Without a subprotocol none is told."""
    async with _open(f"{node.url}?{query}", subprotocols=None) as client:
        assert client.connection.subprotocol is None
        assert await client.call(2, ping={}) == {}


async def test_by_its_subprotocol(node: NodeProcess) -> None:
    async with _open(node.url) as client:
        assert client.connection.subprotocol == "centrifuge-protobuf"


async def test_both_formats_are_told_the_same(node: NodeProcess, redis: Redis, name: Name) -> None:
    """Subscription, publications, recovery, history; the payloads byte by byte."""
    channel = name("log")
    await redis.xadd(channel, {"data": "[1.50, 123456789012345678901234567890]"})
    async with _open(node.url) as client, open_client(node.url) as other:
        begun = await client.call(2, subscribe={"channel": channel})
        assert begun == await other.subscribe(channel)
        await add(redis, channel, {"price": 1.5})
        await add_many(redis, channel, range(5))
        pushes = [(await client.next())["push"] for _ in range(6)]
        assert pushes == [await other.next_push() for _ in range(6)]
        position = {"offset": begun["offset"], "epoch": begun["epoch"]}
        asked: Json = {"channel": channel, "limit": 4, "since": position}
        page = await client.call(3, history=asked)
        assert page == await other.call("history", **asked)
        assert await client.call(4, unsubscribe={"channel": channel}) == {}
        assert await other.call("unsubscribe", channel=channel) == {}
        recovered = await client.call(5, subscribe={"channel": channel, "recover": True, **position})
        assert recovered == await other.subscribe(channel, recover=True, **position)
        assert [publication["offset"] for publication in recovered["publications"]] == [
            push["pub"]["offset"] for push in pushes
        ]
        # Another life of the stream: both are told, and told to come back.
        await redis.delete(channel)
        await add(redis, channel, "another life")
        taken = {"channel": channel, "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
        assert (await client.next())["push"] == taken == await other.next_push()
        lost = await client.call(6, subscribe={"channel": channel, "recover": True, **position})
        assert lost == await other.subscribe(channel, recover=True, **position)
        assert "recovered" not in lost or not lost["recovered"]


async def test_the_bytes_of_an_entry(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel, data = name("log"), b'{"a": 1.50, "big": 123456789012345678901234567890}'
    async with _open(node.url) as client:
        await client.call(2, subscribe={"channel": channel})
        await redis.xadd(channel, {"data": data})
        message = await client.receive()
        assert isinstance(message, bytes)
        assert data in message


async def test_a_snapshot(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("quotes")
    await add(redis, channel, {"price": 1.5})
    async with _open(node.url) as client, open_client(node.url) as other:
        begun = await client.call(2, subscribe={"channel": channel})
        assert begun["publications"][0]["tags"] == {"snapshot": "true"}
        assert begun == await other.subscribe(channel)


async def test_what_one_publishes_the_other_gets(node: NodeProcess, name: Name) -> None:
    channel = name("chat")
    async with _open(node.url) as client, open_client(node.url) as other:
        await client.call(2, subscribe={"channel": channel})
        await other.subscribe(channel)
        await client.send(3, publish={"channel": channel, "data": b'{"text":"a\\nb"}'})
        while "push" not in (push := await client.next()) or "pub" not in push["push"]:
            pass  # the answer, and who joined
        theirs = await other.next_push()
        while "pub" not in theirs:
            theirs = await other.next_push()
        assert push["push"] == theirs
        assert theirs["pub"]["data"]["text"] == "a\nb"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"hello", b""])
async def test_a_payload_that_is_not_json(node: NodeProcess, name: Name, data: bytes) -> None:
    """107, and the session goes on."""
    async with _open(node.url) as client:
        error = await client.call(2, publish={"channel": name("chat"), "data": data})
        assert error["code"] == 107
        assert ("JSON" in error["message"]) is bool(data)
        assert (await client.call(3, rpc={"method": "x"}))["code"] == 104


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (json.dumps({"id": 2, "ping": {}}), 3506),
        (json.dumps({"id": 2, "ping": {}}).encode(), 3501),
        (b"\x7f", 3501),
        (protobuf.command(2, connect={}), 3501),
        (protobuf.command(0, ping={}), 3501),
    ],
)
async def test_what_ends_the_session(node: NodeProcess, message: str | bytes, code: int) -> None:
    async with _open(node.url) as client:
        await client.connection.send(message)
        assert await client.closed() == code


async def test_connect_comes_first(node: NodeProcess) -> None:
    async with _open(node.url, connect=False) as client:
        await client.send(1, ping={})
        assert await client.closed() == 3501
