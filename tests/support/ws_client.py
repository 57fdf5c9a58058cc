"""A client that speaks the raw protocol over the `websockets` client."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets.asyncio.client
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.checker import Given
from tests.support.waiting import DEADLINE

Json = dict[str, Any]


async def dial(url: str, **options: Any) -> ClientConnection:
    """A WebSocket connection as an SDK opens it: no compression, no WebSocket pings of its own.

    Raises:
        OSError, InvalidHandshake: it did not come about.
    """
    defaults: dict[str, Any] = {
        "compression": None,
        "ping_interval": None,
        "max_size": None,
        "close_timeout": 1,
        "open_timeout": DEADLINE,
        "proxy": None,
    }
    return await websockets.asyncio.client.connect(url, **defaults | options)


class Closed(Exception):
    """The connection ended while something was waited for."""


class Client:
    """One connection: commands with their replies, pushes in order. Answers pings unless told not to."""

    def __init__(self, connection: ClientConnection, *, answer_pings: bool = True) -> None:
        self.connection = connection
        #: Every message as it came, for tests of the framing.
        self.messages: list[str | bytes] = []
        self.pings = 0
        self.hello: Json = {}
        self._answer_pings = answer_pings
        self._last_id = 0
        self._replies: dict[int, asyncio.Future[Json]] = {}
        self._pushes: deque[Json] = deque()
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._pinged = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.connection:
                self.messages.append(message)
                assert isinstance(message, str), "a binary frame on a JSON connection"
                for line in filter(None, message.split("\n")):
                    await self._take(json.loads(line))
        except ConnectionClosed:
            pass  # `closed` tells how
        finally:
            self._ended.set()
            self._news.set()
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(Closed(self._how()))
                    reply.exception()  # nobody may be waiting for it

    async def _take(self, answer: Json) -> None:
        if not answer:
            self.pings += 1
            self._pinged.set()
            if self._answer_pings:
                await self.connection.send("{}")
        elif "push" in answer:
            self._pushes.append(answer["push"])
            self._news.set()
        else:
            self._reply(answer["id"]).set_result(answer)

    def _reply(self, number: int) -> asyncio.Future[Json]:
        if number not in self._replies:
            self._replies[number] = asyncio.get_running_loop().create_future()
        return self._replies[number]

    def _how(self) -> str:
        return f"closed with {self.connection.close_code} {self.connection.close_reason!r}"

    async def send_raw(self, message: str | bytes) -> None:
        """Send one message as it is."""
        await self.connection.send(message)

    def next_id(self) -> int:
        """A command number that was not used yet."""
        self._last_id += 1
        return self._last_id

    async def reply(self, number: int, seconds: float = DEADLINE) -> Json:
        """The whole reply to a command that was sent by hand."""
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self._reply(number))

    async def command(self, method: str, /, seconds: float = DEADLINE, **params: Any) -> Json:
        """Send one command and return the whole reply."""
        number = self.next_id()
        await self.send_raw(json.dumps({"id": number, method: params}))
        return await self.reply(number, seconds)

    async def call(self, method: str, /, seconds: float = DEADLINE, **params: Any) -> Json:
        """Send one command and return its result; AssertionError for an error."""
        reply = await self.command(method, seconds, **params)
        assert "error" not in reply, f"{method} {params}: {reply['error']}"
        result: Json = reply.get(method, {})
        return result

    async def error(self, method: str, /, seconds: float = DEADLINE, **params: Any) -> Json:
        """Send one command and return the error it is answered with; AssertionError for a result."""
        reply = await self.command(method, seconds, **params)
        assert "error" in reply, f"{method} {params}: {reply}"
        error: Json = reply["error"]
        return error

    async def connect(self, **params: Any) -> Json:
        """The connect command."""
        self.hello = await self.call("connect", **params)
        return self.hello

    async def subscribe(self, channel: str, **params: Any) -> Json:
        """The subscribe command."""
        return await self.call("subscribe", channel=channel, **params)

    async def recover(self, channel: str, position: Json) -> Json:
        """Subscribe from the position that an earlier result told."""
        known = {key: position[key] for key in ("offset", "epoch") if position.get(key)}
        return await self.subscribe(channel, recover=True, **known)

    async def next_push(self, seconds: float = DEADLINE) -> Json:
        """The next push, of whatever kind."""
        if not self._pushes:
            async with asyncio.timeout(seconds):
                while not self._pushes:
                    if self._ended.is_set():
                        raise Closed(self._how())
                    self._news.clear()
                    await self._news.wait()
        return self._pushes.popleft()

    async def next_publication(self, channel: str, seconds: float = DEADLINE) -> Json:
        """The next push, which must be a publication of this channel."""
        push = await self.next_push(seconds)
        assert push.get("channel") == channel, push
        assert "pub" in push, push
        publication: Json = push["pub"]
        return publication

    async def publications(self, channel: str, count: int) -> list[Given]:
        """The next `count` pushes, which must be publications of this channel."""
        found = []
        for _ in range(count):
            publication = await self.next_publication(channel)
            found.append(Given(publication["offset"], publication["data"]))
        return found

    async def next_data(self, channel: str, seconds: float = DEADLINE) -> Any:
        """The data of the next push, which must be a publication of this channel."""
        return (await self.next_publication(channel, seconds))["data"]

    def pushes_now(self) -> list[Json]:
        """The pushes that have come and were not asked for yet."""
        pushes = list(self._pushes)
        self._pushes.clear()
        return pushes

    async def pinged(self, seconds: float = DEADLINE) -> None:
        """Wait for a ping."""
        async with asyncio.timeout(seconds):
            await self._pinged.wait()
            self._pinged.clear()

    async def closed(self, seconds: float = DEADLINE) -> tuple[int | None, str | None]:
        """Wait for the end of the connection; its close code and reason."""
        async with asyncio.timeout(seconds):
            await self._ended.wait()
        return self.connection.close_code, self.connection.close_reason

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._ended.is_set()

    def cut(self) -> None:
        """End the TCP connection without a word."""
        self.connection.transport.abort()

    async def aclose(self) -> None:
        """Close it as an SDK does."""
        await self.connection.close()
        await self._reading


@asynccontextmanager
async def open_client(
    url: str, *, connect: bool = True, answer_pings: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """A client, closed at the end; with `connect` it has said hello."""
    client = Client(await dial(url, **options), answer_pings=answer_pings)
    try:
        if connect:
            await client.connect()
        yield client
    finally:
        await client.aclose()
