"""RFC 6455 on the wire: fragments, masks, UTF-8, pings, close codes, and what is no WebSocket at all."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add
from tests.support.node import NodeProcess
from tests.support.raw_client import BINARY, CLOSE, PING, PONG, TEXT, RawClient, frame
from tests.support.ws_client import open_client

Name = Callable[[str], str]

_CONNECT = b'{"id":1,"connect":{}}'
_CONTINUATION = 0x0


async def _hello(client: RawClient) -> None:
    await client.send(frame(_CONNECT))
    [answer] = await client.next_answers()
    assert answer["connect"]["client"]


@pytest.mark.parametrize("size", [1, 3, 10])
async def test_fragments_with_a_ping_between(node: NodeProcess, size: int) -> None:
    async with await RawClient.open(node.port) as client:
        parts = [_CONNECT[at : at + size] for at in range(0, len(_CONNECT), size)]
        for number, part in enumerate(parts):
            opcode = _CONTINUATION if number else TEXT
            await client.send(frame(part, opcode, final=number == len(parts) - 1))
            if number == 0:
                await client.send(frame(b"are you there", PING))
                pong = await client.next_frame()
                assert pong is not None
                assert (pong.opcode, pong.payload) == (PONG, b"are you there")
        [answer] = await client.next_answers()
        assert answer["connect"]["client"]


async def test_bytes_one_by_one(node: NodeProcess) -> None:
    async with await RawClient.open(node.port) as client:
        for byte in frame(_CONNECT):
            await client.send(bytes([byte]))
        [answer] = await client.next_answers()
        assert answer["connect"]["client"]


async def test_many_frames_in_one_packet(node: NodeProcess, name: Name) -> None:
    async with await RawClient.open(node.port) as client:
        commands = [{"id": n, "history": {"channel": name("log")}} for n in range(2, 40)]
        await client.send(
            frame(_CONNECT) + b"".join(frame(json.dumps(command).encode()) for command in commands)
        )
        seen: list[int] = []
        while len(seen) < 39:
            seen += [answer["id"] for answer in await client.next_answers() if answer]
        assert sorted(seen) == list(range(1, 40))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param(frame(b'{"id":2,"rpc":{"\xff":1}}'), 1007, id="invalid UTF-8"),
        pytest.param(frame(b"\xed\xa0\x80"), 1007, id="a surrogate in UTF-8"),
        pytest.param(frame(b"{}", masked=False), 1002, id="unmasked"),
        pytest.param(frame(b"{}", 0x3), 1002, id="a reserved opcode"),
        pytest.param(frame(b"{}", _CONTINUATION), 1002, id="a continuation of nothing"),
        pytest.param(frame(b"{}", final=False) + frame(b"{}"), 1002, id="a message within a message"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="a long ping"),
        pytest.param(frame(b"x", PING, final=False), 1002, id="a ping in fragments"),
        pytest.param(bytes([0x80 | 0x40 | TEXT]) + frame(b"{}")[1:], 1002, id="a reserved bit"),
        pytest.param(frame(b"\x03", CLOSE), 1002, id="half a close code"),
        pytest.param(frame(struct.pack("!H", 1005), CLOSE), 1002, id="a close code nobody sends"),
        pytest.param(frame(struct.pack("!H", 1000) + b"\xff", CLOSE), 1007, id="a close reason not UTF-8"),
        pytest.param(bytes([0x80 | TEXT, 0x80 | 127]) + struct.pack("!Q", 2**62) + b"mask", 1009, id="huge"),
    ],
)
async def test_a_frame_that_breaks_the_rules(node: NodeProcess, bad: bytes, code: int) -> None:
    async with await RawClient.open(node.port) as client:
        await _hello(client)
        await client.send(bad)
        end = await client.next_frame()
        assert end is not None, "cut without a close frame"
        assert (end.opcode, end.close_code) == (CLOSE, code)
        assert await client.next_frame() is None
    async with open_client(node.url) as other:
        assert other.hello["client"]


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999, None])
async def test_the_close_handshake(node: NodeProcess, code: int | None) -> None:
    async with await RawClient.open(node.port) as client:
        await _hello(client)
        await client.send(frame(b"" if code is None else struct.pack("!H", code) + b"bye", CLOSE))
        end = await client.next_frame()
        assert end is not None
        assert end.opcode == CLOSE
        assert end.payload[:2] == (b"" if code is None else struct.pack("!H", code))
        assert await client.next_frame() is None


async def test_frames_after_a_close_are_ignored(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    async with await RawClient.open(node.port) as client:
        await _hello(client)
        late = json.dumps({"id": 2, "publish": {"channel": channel, "data": 1}}).encode()
        await client.send(frame(struct.pack("!H", 1000), CLOSE) + frame(late))
        while (found := await client.next_frame()) is not None:
            assert found.opcode == CLOSE
    assert await redis.xlen(channel) == 0


async def test_a_half_closed_socket_ends_the_session(node: NodeProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        writer.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")
            writer.write_eof()
            await reader.read()
    finally:
        writer.transport.abort()


async def test_empty_messages_and_pongs_are_nothing(node: NodeProcess) -> None:
    async with await RawClient.open(node.port) as client:
        await _hello(client)
        await client.send(frame(b"", PONG) + frame(b"{}") + frame(b"{}\n{}\n"))
        await client.command({"id": 2, "rpc": {}})
        [answer] = await client.next_answers()
        assert answer["error"]["code"] == 104


async def test_binary_before_connect(node: NodeProcess) -> None:
    async with await RawClient.open(node.port) as client:
        await client.send(frame(_CONNECT, BINARY))
        end = await client.next_frame()
        assert end is not None
        assert end.opcode == CLOSE
        assert end.close_code in (3501, 3506)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "short",
            "Sec-WebSocket-Version": "13",
        },
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "8",
        },
    ],
    ids=["plain GET", "no key", "a bad key", "an old version"],
)
async def test_no_websocket_handshake(node: NodeProcess, headers: dict[str, str]) -> None:
    answer = await http.get(node.port, "/connection/websocket", headers)
    assert 400 <= answer.status < 500
    assert "Traceback" not in answer.body


async def test_another_path_is_not_found(node: NodeProcess) -> None:
    assert (await http.get(node.port, "/no/such/page")).status == 404


async def test_a_large_publication_in_and_out(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    text = "ü" * 30_000
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        command = {"id": 900, "publish": {"channel": channel, "data": text}}
        await client.send_raw(json.dumps(command, ensure_ascii=False))
        assert "error" not in await client.reply(900)
        assert await client.next_data(channel) == text
        for size in (1, 60, 125, 126, 127, 65_000):  # around the frame header's lengths
            await add(redis, channel, "x" * size)
            assert await client.next_data(channel) == "x" * size
