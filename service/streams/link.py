"""A pipelined RESP3 connection to one Redis: commands in, replies and pushes out, nothing in between.

redis-py connects (TLS, `HELLO`, `AUTH`); from then on hiredis' reader parses what comes. Replies
are matched to calls by order alone, so a caller that goes away never shifts somebody else's reply,
and nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis

from service.errors import CommandFailed, Unavailable
from service.sections import RedisSettings
from service.streams import connect

Argument = bytes | str | int
Command = tuple[Argument, ...]
#: bytes, int, list, dict, None, … or a CommandFailed where Redis answered with an error.
Reply = Any

#: Requests waiting in this process for a slow Redis, in bytes; beyond, calls fail at once.
MAX_WRITE_BUFFER = 16 * 2**20

_INCOMPLETE: Final = object()


class _Call:
    __slots__ = ("deadline", "future", "replies", "wanted")

    def __init__(self, wanted: int, deadline: float, future: asyncio.Future[list[Reply]]) -> None:
        self.wanted = wanted
        self.deadline = deadline
        self.future = future
        self.replies: list[Reply] = []


class Link(asyncio.Protocol):
    """One connection. Made by `Link.open`; of no further use once `closed` is done.

    Args:
        timeout: seconds without an answer, or any part of one, after which a call ends the connection.
        on_push: called with each RESP3 push, a list whose first item names its kind.
    """

    def __init__(self, timeout: float, on_push: Callable[[list[Any]], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._on_push = on_push
        self._reader = hiredis.Reader(
            protocolError=Unavailable, replyError=CommandFailed, notEnoughData=_INCOMPLETE
        )
        self._calls: deque[_Call] = deque()
        # Commands of this step of the loop, not yet written.
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._watchdog: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._writer: asyncio.StreamWriter | None = None
        # When the last bytes came.
        self._heard_at = 0.0
        #: Bytes that have come, in all.
        self.received = 0
        #: Done when the connection is over; its result is why.
        self.closed: asyncio.Future[str] = self._loop.create_future()

    @classmethod
    async def open(cls, settings: RedisSettings, on_push: Callable[[list[Any]], None] | None = None) -> Link:
        """Connect and authenticate.

        Raises:
            Unavailable: Redis is not there, refuses the credentials, or does not answer in time.
        """
        writer = await connect.connected_writer(settings)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # redis-py's time-outs swallow a cancellation that comes while they connect (Python 3.11).
            writer.transport.abort()
            raise asyncio.CancelledError
        transport = cast(asyncio.Transport, writer.transport)
        link = cls(settings.timeout_seconds, on_push)
        link._transport, link._writer = transport, writer
        transport.set_protocol(link)
        if transport.is_closing():
            link._end("connection lost")
        else:
            transport.resume_reading()
        return link

    def call(self, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        """Send commands as one pipeline; the future holds one reply for each, in order.

        An error of Redis is a `CommandFailed` in the list. The future fails with `Unavailable` when
        the connection ends first; whether Redis executed the commands is then unknown.
        """
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        transport = self._transport
        if transport is None or self.closed.done():
            future.set_exception(Unavailable("not connected to Redis"))
            return future
        if transport.get_write_buffer_size() + self._unwritten_bytes > MAX_WRITE_BUFFER:
            future.set_exception(Unavailable("Redis does not read its requests"))
            return future
        deadline = self._loop.time() + self._timeout
        self._calls.append(_Call(len(commands), deadline, future))
        if self._watchdog is None:
            self._watchdog = self._loop.call_at(deadline, self._check_deadline)
        if not self._unwritten:
            self._loop.call_soon(self._write)
        for command in commands:
            packed = hiredis.pack_command(cast(Any, command))
            self._unwritten.append(packed)
            self._unwritten_bytes += len(packed)
        return future

    def _write(self) -> None:
        # Once for all that a step of the loop has asked: many small writes would cost this process
        # and Redis a system call each.
        transport, unwritten = self._transport, self._unwritten
        self._unwritten, self._unwritten_bytes = [], 0
        if transport is not None and not self.closed.done():
            transport.write(b"".join(unwritten))

    def close(self, why: str = "closed") -> None:
        """End the connection now; calls under way fail with `Unavailable`."""
        self._end(why)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Feed the parser; hand out replies and pushes."""
        reader = self._reader
        self._heard_at = self._loop.time()
        self.received += len(data)
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _INCOMPLETE:
                if isinstance(reply, hiredis.PushNotification):
                    if self._on_push is not None:
                        self._on_push(reply)
                else:
                    self._take(reply)
        except (Unavailable, ValueError) as exc:  # the latter: an error that is not UTF-8
            self._end(f"not RESP3: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """All calls under way fail."""
        self._end(f"connection lost: {exc}" if exc else "connection closed by Redis")

    def _take(self, reply: Reply) -> None:
        if not self._calls:
            self._end("a reply that nobody asked for")
            return
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) == call.wanted:
            self._calls.popleft()
            if not call.future.done():  # the caller may have gone away
                call.future.set_result(call.replies)

    def _check_deadline(self) -> None:
        self._watchdog = None
        if not self._calls:
            return
        # A large reply takes its time; cut off, it would be asked for again, and never come.
        deadline = max(self._calls[0].deadline, self._heard_at + self._timeout)
        if deadline <= self._loop.time():
            self._end(f"no answer within {self._timeout} s")
        else:
            self._watchdog = self._loop.call_at(deadline, self._check_deadline)

    def _end(self, why: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(why)
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._calls:
            future = self._calls.popleft().future
            if not future.done():
                future.set_exception(Unavailable(why))
                future.exception()  # retrieved: a caller that went away is no error
