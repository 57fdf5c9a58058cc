"""A client without a WebSocket library around its socket: it reads when told to, and sends any bytes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from typing import Any, NamedTuple, Self

from tests.support.waiting import DEADLINE

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Frame(NamedTuple):
    """One frame as it stood on the wire."""

    final: bool
    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """Of a close frame."""
        assert self.opcode == CLOSE, self
        return int(struct.unpack("!H", self.payload[:2])[0])


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True, masked: bool = True) -> bytes:
    """The bytes of one frame from a client."""
    mask = os.urandom(4) if masked else b""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload
    size, bit = len(payload), 0x80 if masked else 0
    if size < 126:
        length = struct.pack("!B", bit | size)
    elif size < 65536:
        length = struct.pack("!BH", bit | 126, size)
    else:
        length = struct.pack("!BQ", bit | 127, size)
    return bytes([(0x80 if final else 0) | opcode]) + length + mask + body


class RawClient:
    """A socket after the opening handshake. What is not read stays with the kernel, then with the node."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        #: Bytes taken from the socket after the handshake.
        self.taken = 0

    @classmethod
    async def open(cls, port: int, path: str = "/connection/websocket", headers: str = "") -> Self:
        """Connect and shake hands."""
        sock = socket.socket()
        sock.setblocking(False)
        client = cls(sock)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            request = (
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Sec-WebSocket-Version: 13\r\n{headers}\r\n"
            )
            await loop.sock_sendall(sock, request.encode())
            while b"\r\n\r\n" not in client._buffer:
                assert await client._receive(), f"refused: {bytes(client._buffer)!r}"
        head, _, rest = bytes(client._buffer).partition(b"\r\n\r\n")
        assert b" 101 " in head.splitlines()[0], head
        client._buffer = bytearray(rest)
        client.taken = len(rest)
        return client

    async def _receive(self) -> bool:
        chunk = await asyncio.get_running_loop().sock_recv(self._sock, 4096)
        self._buffer += chunk
        self.taken += len(chunk)
        return bool(chunk)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def command(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame, without waiting for replies."""
        await self.send(frame(b"\n".join(json.dumps(command).encode() for command in commands)))

    async def next_frame(self, seconds: float = DEADLINE) -> Frame | None:
        """Read one frame; None where the stream ends (or is reset) instead."""
        async with asyncio.timeout(seconds):
            while (found := self._parse()) is None:
                try:
                    if not await self._receive():
                        return None
                except ConnectionError:
                    return None
            return found

    def _parse(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            start = 4
        elif size == 127:
            start = 10
        if len(buffer) < start:
            return None
        if start > 2:
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        found = Frame(bool(buffer[0] & 0x80), buffer[0] & 0x0F, bytes(buffer[start : start + size]))
        del buffer[: start + size]
        return found

    async def next_answers(self, seconds: float = DEADLINE) -> list[dict[str, Any]]:
        """Read one text frame and take it apart; pings are passed over, another frame is an error."""
        while True:
            found = await self.next_frame(seconds)
            assert found is not None, "the connection ended"
            assert found.opcode == TEXT, found
            answers = [json.loads(line) for line in filter(None, found.payload.split(b"\n"))]
            if any(answers):
                return answers

    def abort(self) -> None:
        """Close the socket with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.abort()
