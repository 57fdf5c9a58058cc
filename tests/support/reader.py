"""A client that follows one channel over any number of connections, as an SDK does."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.checker import Given
from tests.support.waiting import DEADLINE
from tests.support.ws_client import Json, dial

#: Seconds until the next attempt where nobody listens, or after a temporary error; an SDK's first back-off.
_BACK_OFF = 0.05

_CONNECT, _SUBSCRIBE = 1, 2


class BrokenPromise(AssertionError):
    """The node sent what the protocol rules out."""


class Reader:
    """Keeps the position that an SDK keeps, recovers from it, and records every publication.

    Args:
        urls: nodes; each connection goes to one chosen by `rng`.
        channel: what it follows.
        rng: decides where it connects, and with `cuts` when it is cut.
        cuts: how often it cuts its own connection, at random moments.
        stride: mean number of publications between two cuts.
    """

    def __init__(
        self,
        urls: Sequence[str],
        channel: str,
        *,
        rng: random.Random | None = None,
        cuts: int = 0,
        stride: int = 100,
    ) -> None:
        self.urls = list(urls)
        self.channel = channel
        self.received: list[Given] = []
        #: The position of the first subscription: everything after it is owed.
        self.start: int | None = None
        self.epochs: list[str] = []
        self.connections = 0
        self.recoveries = 0
        #: Indices into `received` where the node said that something may be missing.
        self.unrecovered: list[int] = []
        #: Unsubscribe pushes 2500.
        self.insufficient = 0
        #: Codes of closes by the node.
        self.close_codes: list[int] = []
        self.cuts_left = cuts
        self._stride = stride
        self._rng = rng or random.Random(0)
        self._offset = 0
        self._epoch = ""
        self._positioned = False
        self._subscribed = False
        self._next_id = _SUBSCRIBE
        self._pending: dict[int, Json] = {}
        self._connection: ClientConnection | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        try:
            await self.until(lambda: self._positioned, "it has subscribed")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self.cut()
        await asyncio.wait([self._task])

    def cut(self) -> None:
        """End the TCP connection without a word; it will connect again."""
        if self._connection is not None:
            self._connection.transport.abort()

    @property
    def subscribed(self) -> bool:
        """Whether it holds a subscription now."""
        return self._subscribed

    async def until(self, true: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Wait until something is true of this reader; each change of its state asks again.

        Raises:
            AssertionError: it was not in time, or the node broke the protocol.
        """
        assert self._task is not None
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    if self._task.done():
                        self._task.result()
                    self._changed.clear()
                    waits = {asyncio.create_task(self._changed.wait()), self._task}
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    for task in waits - {self._task}:
                        task.cancel()
        except TimeoutError:
            raise AssertionError(f"not in {seconds} s: {what}; {self!r}") from None
        if self._task.done():
            self._task.result()

    async def until_offset(self, offset: int, seconds: float = DEADLINE) -> None:
        """Wait until it was given the entry of this offset, or a later one, and is subscribed."""
        await self.until(
            lambda: self._subscribed and self._offset >= offset, f"it is at offset {offset}", seconds
        )

    async def until_data(self, data: Any, seconds: float = DEADLINE) -> None:
        """Wait until the last publication it was given holds this."""
        await self.until(
            lambda: bool(self.received) and self.received[-1].data == data, f"the last is {data}", seconds
        )

    def __repr__(self) -> str:
        last = self.received[-1] if self.received else None
        return (
            f"<Reader {self.channel}: {len(self.received)} received, last {last}, offset {self._offset}, "
            f"connections {self.connections}, recoveries {self.recoveries}, "
            f"unrecovered {self.unrecovered}, 2500s {self.insufficient}, closes {self.close_codes}, "
            f"subscribed {self._subscribed}>"
        )

    async def _run(self) -> None:
        while True:
            try:
                connection = await dial(self._rng.choice(self.urls))
            except (OSError, InvalidHandshake, TimeoutError):
                await asyncio.sleep(_BACK_OFF)
                continue
            self._connection = connection
            self.connections += 1
            try:
                await self._follow(connection)
            except ConnectionClosed as exc:
                if exc.rcvd is not None:
                    self.close_codes.append(exc.rcvd.code)
                    if 3500 <= exc.rcvd.code <= 3999:
                        raise BrokenPromise(f"closed for good: {exc}; {self!r}") from None
            finally:
                had_subscribed, self._subscribed = self._subscribed, False
                self._pending.clear()
                connection.transport.abort()
            self._changed.set()
            if not had_subscribed:
                await asyncio.sleep(_BACK_OFF)

    async def _follow(self, connection: ClientConnection) -> None:
        # The JavaScript SDK's first frame: connect and subscribe together.
        await connection.send(json.dumps({"id": _CONNECT, "connect": {}}) + "\n" + self._subscribe_command())
        budget = self._fate(connection)
        async for message in connection:
            assert isinstance(message, str), "a binary frame on a JSON connection"
            for line in filter(None, message.split("\n")):
                budget -= await self._take(connection, json.loads(line))
                if budget <= 0 and self.cuts_left > 0:
                    self.cuts_left -= 1
                    connection.transport.abort()
                    return
            self._changed.set()
        # An iteration that ends without an exception was closed with 1000 or 1001.
        if connection.close_code is not None:
            self.close_codes.append(connection.close_code)

    def _fate(self, connection: ClientConnection) -> int:
        """After how many publications this connection will be cut; some are cut before the first answer."""
        if self.cuts_left > 0 and self._rng.random() < 0.15:
            self.cuts_left -= 1
            connection.transport.abort()
        return self._rng.randint(1, 2 * self._stride)

    def _subscribe_command(self) -> str:
        self._next_id += 1
        request: Json = {"channel": self.channel}
        if self._positioned:
            request["recover"] = True
            if self._offset:
                request["offset"] = self._offset
            if self._epoch:
                request["epoch"] = self._epoch
        self._pending[self._next_id] = request
        return json.dumps({"id": self._next_id, "subscribe": request})

    async def _take(self, connection: ClientConnection, answer: Json) -> int:
        """Take one answer; returns how many publications it held."""
        if not answer:
            await connection.send("{}")
            return 0
        if "push" in answer:
            return await self._push(connection, answer["push"])
        if answer["id"] == _CONNECT:
            if "error" in answer:
                raise BrokenPromise(f"connect: {answer['error']}")
            return 0
        request = self._pending.pop(answer["id"])
        if error := answer.get("error"):
            if not error.get("temporary"):
                raise BrokenPromise(f"{request}: {error}")
            await asyncio.sleep(_BACK_OFF)
            await connection.send(self._subscribe_command())
            return 0
        return self._joined(request, answer.get("subscribe", {}))

    def _joined(self, request: Json, result: Json) -> int:
        if not result.get("recoverable") or not result.get("epoch"):
            raise BrokenPromise(f"{request}: not recoverable: {result}")
        offset, recovered = result.get("offset", 0), result.get("recovered", False)
        if "recover" in request and not result.get("was_recovering"):
            raise BrokenPromise(f"{request}: was_recovering is missing: {result}")
        if recovered and offset != request.get("offset", 0):
            raise BrokenPromise(f"{request}: a recovery's offset is the requested one: {result}")
        publications = result.get("publications", [])
        if "recover" in request and recovered:
            self.recoveries += 1
        elif "recover" in request:
            if publications:
                raise BrokenPromise(f"{request}: publications without recovered: {result}")
            self.unrecovered.append(len(self.received))
        self._subscribed = True
        self._offset = offset
        if self._epoch != result["epoch"]:
            self._epoch = result["epoch"]
            self.epochs.append(self._epoch)
        for publication in publications:
            self._given(publication)
        if not self._positioned:
            self._positioned = True
            self.start = self._offset
        return len(publications)

    async def _push(self, connection: ClientConnection, push: Json) -> int:
        if push.get("channel") != self.channel:
            raise BrokenPromise(f"a push of another channel: {push}")
        if not self._subscribed:
            raise BrokenPromise(f"a push without a subscription: {push}")
        if "pub" in push:
            self._given(push["pub"])
            return 1
        if "unsubscribe" in push:
            if push["unsubscribe"]["code"] != 2500:
                raise BrokenPromise(f"an end for good: {push}")
            self.insufficient += 1
            self._subscribed = False
            await connection.send(self._subscribe_command())
        return 0

    def _given(self, publication: Json) -> None:
        offset = publication.get("offset", 0)
        if not publication.get("tags", {}).get("snapshot"):
            self.received.append(Given(offset, publication["data"]))
        if offset:
            self._offset = offset
