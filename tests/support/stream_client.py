"""A client of SSE and HTTP streams: a raw socket for what comes, and requests for the way back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx

from tests.support.checker import Given
from tests.support.node import NodeProcess
from tests.support.waiting import DEADLINE

Json = dict[str, Any]

CONNECT: Json = {"id": 1, "connect": {}}


def lines(*commands: Json) -> str:
    """Commands as the SDKs send them."""
    return "\n".join(map(json.dumps, commands))


async def emulate(port: int, fields: object, **headers: str) -> httpx.Response:
    """POST to `/emulation`."""
    content = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(f"http://127.0.0.1:{port}/emulation", content=content, headers=headers)


class StreamClient:
    """One response that does not end; `transport` is its name in SDKs."""

    def __init__(self, transport: str, sock: socket.socket) -> None:
        self.transport = transport
        self._sock = sock
        self._buffer = b""
        self._last_id = 1000
        self._replies: dict[int, Json] = {}
        self._pushes: list[Json] = []
        #: Of the response.
        self.status = 0
        self.headers: dict[str, str] = {}
        #: The result of connect.
        self.hello: Json = {}
        self.pings = 0

    @classmethod
    async def ask(cls, port: int, transport: str, request: bytes) -> Self:
        """Send a request, and read the head of the answer."""
        sock = socket.socket()
        sock.setblocking(False)
        # What is not read waits with the node, and not with the kernel.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client = cls(transport, sock)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, request)
            head = (await client._until(b"\r\n\r\n")).decode()
        status, *fields = head.rstrip().split("\r\n")
        client.status = int(status.split()[1])
        client.headers = dict(field.lower().split(": ", 1) for field in fields)
        return client

    @classmethod
    async def open(cls, port: int, transport: str, commands: str, *headers: str) -> Self:
        """Ask with commands: in the URL for `sse`, else in the body."""
        own = "".join(f"{header}\r\n" for header in headers)
        if transport == "sse":
            first, body = f"GET /connection/sse?cf_connect={quote(commands)}", b""
        else:
            first, body = f"POST /connection/{transport}", commands.encode()
        head = f"{first} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{own}Content-Length: {len(body)}\r\n\r\n"
        return await cls.ask(port, transport, head.encode() + body)

    async def _receive(self) -> bool:
        chunk = await asyncio.get_running_loop().sock_recv(self._sock, 65_536)
        self._buffer += chunk
        return bool(chunk)

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            if not await self._receive():
                raise EOFError(self._buffer)
        found, _, self._buffer = self._buffer.partition(end)
        return found + end

    async def next_message(self, seconds: float = DEADLINE) -> Json:
        """The next message, whatever it is."""
        end = b"\n\n" if self.transport == "sse" else b"\n"
        async with asyncio.timeout(seconds):
            raw = await self._until(end)
        if self.transport == "sse":
            assert raw.startswith(b"data: "), raw
            raw = raw.removeprefix(b"data: ")
        message: Json = json.loads(raw)
        return message

    async def _take(self) -> None:
        message = await self.next_message()
        if not message:
            self.pings += 1
        elif "push" in message:
            self._pushes.append(message["push"])
        else:
            self._replies[message["id"]] = message

    async def reply(self, number: int) -> Json:
        """The whole reply to a command."""
        while number not in self._replies:
            await self._take()
        return self._replies.pop(number)

    async def next_push(self) -> Json:
        """The next push."""
        while not self._pushes:
            await self._take()
        return self._pushes.pop(0)

    async def publications(self, channel: str, count: int) -> list[Given]:
        """The next pushes, which must be publications of this channel."""
        found = []
        for _ in range(count):
            push = await self.next_push()
            assert push.get("channel") == channel, push
            assert "pub" in push, push
            found.append(Given(push["pub"]["offset"], push["pub"]["data"]))
        return found

    async def ended(self) -> Json:
        """Wait for the end of the response; the disconnect push before it."""
        try:
            while True:
                await self._take()
        except EOFError:
            assert not self._buffer, "the last message is cut"
        disconnect: Json = self._pushes.pop()["disconnect"]
        return disconnect

    async def rest(self) -> bytes:
        """All that comes until the end of the response, or a reset."""
        async with asyncio.timeout(DEADLINE):
            try:
                while await self._receive():
                    pass
            except ConnectionError:
                pass
        return self._buffer

    async def send(self, data: bytes) -> None:
        """Send what no client sends: more on the same connection."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def letter(self, data: str) -> Json:
        """What is to be posted to `/emulation`."""
        return {"session": self.hello["session"], "node": self.hello["node"], "data": data}

    async def tell(self, port: int, data: str) -> None:
        """Send commands, by whatever node listens on this port."""
        response = await emulate(port, self.letter(data))
        assert response.status_code == 204, response.text

    async def call(self, port: int, method: str, **params: Any) -> Json:
        """Send a command, and return its whole reply."""
        self._last_id += 1
        number = self._last_id
        await self.tell(port, json.dumps({"id": number, method: params}))
        return await self.reply(number)

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


@asynccontextmanager
async def open_stream(
    node: NodeProcess, transport: str = "sse", *commands: Json
) -> AsyncIterator[StreamClient]:
    """A client that has said hello, and what follows in the same request."""
    client = await StreamClient.open(node.port, transport, lines(CONNECT, *commands))
    try:
        assert client.status == 200, client.headers
        client.hello = (await client.reply(1))["connect"]
        yield client
    finally:
        client.close()
