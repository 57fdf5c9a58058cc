"""The few lines of HTTP that probes and handshakes need."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.support.waiting import DEADLINE


class Response(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: str


async def get(port: int, path: str, headers: dict[str, str] | None = None) -> Response:
    """GET from a loopback port, over a connection that is closed afterwards."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            lines = {"Host": f"127.0.0.1:{port}", "Connection": "close", **(headers or {})}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            raw = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    head_bytes, _, body = raw.partition(b"\r\n\r\n")
    status_line, *header_lines = head_bytes.decode("latin-1").split("\r\n")
    parsed = dict(line.lower().split(": ", 1) for line in header_lines)
    if parsed.get("transfer-encoding") == "chunked":
        body = _dechunk(body)
    return Response(int(status_line.split()[1]), parsed, body.decode())


def _dechunk(body: bytes) -> bytes:
    out = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        out += rest[:length]
        body = rest[length + 2 :]
    return bytes(out)
