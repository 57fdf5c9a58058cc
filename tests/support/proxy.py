"""A TCP proxy that misbehaves on request, between a client and a server on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol, Self

from tests.support.waiting import DEADLINE

#: Turns of the event loop from an accept to the end of an aborted transport, and some to spare.
_LAST_TURNS = 10


class Filter(Protocol):
    """Takes what came from the server, returns what the client gets. One for each connection."""

    def feed(self, data: bytes) -> bytes:
        """Returns whole messages as soon as they are complete."""
        ...


class HintFilter:
    """Loses invalidation pushes of RESP3: an unread `>2 $10 invalidate …` never reaches the node.

    Args:
        lose: decides for each push.
    """

    def __init__(self, lose: Callable[[], bool]) -> None:
        self._lose = lose
        self._buffer = bytearray()
        self._at = 0  # what of the buffer has been scanned
        self._missing = 1  # values until the message that begins the buffer is complete

    def feed(self, data: bytes) -> bytes:
        """See `Filter`."""
        self._buffer += data
        out = bytearray()
        while self._scan():
            message = bytes(self._buffer[: self._at])
            del self._buffer[: self._at]
            self._at, self._missing = 0, 1
            is_hint = message.startswith(b">") and b"\r\ninvalidate\r\n" in message[:32]
            if not (is_hint and self._lose()):
                out += message
        return bytes(out)

    def _scan(self) -> bool:
        """Walk to the end of the first message; False where it is not all there yet."""
        while self._missing:
            line_end = self._buffer.find(b"\r\n", self._at)
            if line_end < 0:
                return False
            kind = self._buffer[self._at : self._at + 1]
            end = line_end + 2
            children = 0
            if kind in b"$!=":
                size = int(self._buffer[self._at + 1 : line_end])
                end += size + 2 if size >= 0 else 0
                if len(self._buffer) < end:
                    return False
            elif kind in b"*~>%|":
                children = max(int(self._buffer[self._at + 1 : line_end]), 0)
                if kind in b"%|":
                    children *= 2
            # Attributes stand before the value they belong to.
            self._missing += children - (kind != b"|")
            self._at = end
        return True


class _Link:
    """One proxied connection."""

    def __init__(
        self, proxy: Proxy, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int
    ) -> None:
        self.proxy = proxy
        self._client_reader, self._client = client
        self._port = port
        self._server: asyncio.StreamWriter | None = None
        self._doomed = False
        self._filter = proxy.new_filter() if proxy.new_filter else None
        self._forwarded = 0

    async def run(self) -> None:
        try:
            reader, self._server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            self.cut()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._upstream(self._server))
                group.create_task(self._downstream(reader))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone
        finally:
            self.cut()

    async def _upstream(self, server: asyncio.StreamWriter) -> None:
        while data := await self._client_reader.read(65536):
            if self.proxy.doom and self.proxy.doom in data:
                self._doomed = True
            await self.proxy.passing.wait()
            server.write(data)
            await server.drain()
        self.cut()

    async def _downstream(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(65536):
            if self._doomed:
                # The server has done what it was asked, and its answer is lost.
                self.proxy.executed_and_cut.set()
                break
            await self.proxy.passing.wait()
            if self.proxy.cut_after is not None:
                room = self.proxy.cut_after - self._forwarded
                data = data[: max(room, 0)]
            if self._filter is not None:
                data = self._filter.feed(data)
            self._forwarded += len(data)
            self._client.write(data)
            await self._client.drain()
            if self.proxy.cut_after is not None and self._forwarded >= self.proxy.cut_after:
                break
        self.cut()

    def cut(self) -> None:
        """End both sides at once."""
        for writer in (self._client, self._server):
            if writer is not None:
                writer.transport.abort()


class Proxy:
    """Forwards from a free loopback port to another, until told to misbehave.

    Args:
        port: where the server listens.
        new_filter: makes the filter of each connection's way from server to client.
    """

    def __init__(self, port: int, *, new_filter: Callable[[], Filter] | None = None) -> None:
        self.target = port
        self.new_filter = new_filter
        #: A connection is cut, without the answer, once the server answered a request with these bytes.
        self.doom: bytes | None = None
        self.executed_and_cut = asyncio.Event()
        #: Cut each connection after so many bytes to the client.
        self.cut_after: int | None = None
        #: While cleared, bytes wait here in both directions.
        self.passing = asyncio.Event()
        self.passing.set()
        #: Whether new connections are forwarded; else they are reset.
        self.accepting = True
        self.accepted = 0
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for link in list(self._links):
            link.cut()

    def close_door(self) -> None:
        """Reset every connection and all that come, until `open_door`."""
        self.accepting = False
        self.cut()

    def open_door(self) -> None:
        """Forward new connections again."""
        self.accepting = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            writer.transport.abort()
            return
        self.accepted += 1
        link = _Link(self, (reader, writer), self.target)
        task = asyncio.create_task(link.run())
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link, None))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.passing.set()
        self.close_door()
        tasks = list(self._links.values())
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE)
        await self._server.wait_closed()
        # A connection accepted in the last moment meets the closed door, and aborted transports close
        # their sockets, in the next turns of the event loop.
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)


def losing(rng: random.Random, share: float) -> tuple[Callable[[], Filter], list[int]]:
    """A maker of filters that lose a share of the hints, and a list whose length counts the lost."""
    lost: list[int] = []

    def lose() -> bool:
        if rng.random() < share:
            lost.append(1)
            return True
        return False

    return lambda: HintFilter(lose), lost
