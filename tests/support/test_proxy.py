"""The proxy's filter takes hints out of a RESP3 stream, however it is cut into reads."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.proxy import HintFilter, Proxy

HINT = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nlog:a\r\n"
FLUSHED = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
OTHER = b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"
REPLIES = (
    b"+OK\r\n",
    b"%1\r\n$5\r\nlog:a\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$4\r\ndata\r\n$6\r\n\r\n>2\r\n\r\n",
    b"_\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n+OK\r\n",
    b"-ERR no\r\n",
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_hints_are_lost_and_nothing_else(size: int) -> None:
    stream = HINT + b"".join(reply + HINT for reply in REPLIES) + FLUSHED + OTHER
    lossy = HintFilter(lambda: True)
    out = b"".join(lossy.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert out == b"".join(REPLIES) + OTHER


def test_a_filter_that_loses_nothing_changes_nothing() -> None:
    stream = HINT + b"".join(REPLIES) + FLUSHED + OTHER
    assert HintFilter(lambda: False).feed(stream) == stream


async def test_a_doomed_request_is_executed_and_its_answer_lost() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            asked.set()
            writer.write(b"done")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        proxy.doom = b"XADD"
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"PING")
        assert await reader.read(100) == b"done"
        asked.clear()
        writer.write(b"XADD")
        await asked.wait()
        try:
            assert await reader.read(100) == b""
        except ConnectionResetError:
            pass  # a reset is an end too
        assert proxy.executed_and_cut.is_set()
        writer.close()
