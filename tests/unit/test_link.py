"""streams.link: replies go to the calls they belong to, and a lost connection fails all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis

from service.errors import CommandFailed, Unavailable
from service.sections import RedisSettings
from service.streams.link import Link
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.clock import turns

Name = Callable[[str], str]


class _Clock:
    """Stands in for a link's event loop where that keeps deadlines."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.Handle:
        self._timers.append((when, callback))
        return asyncio.Handle(callback, [], asyncio.get_running_loop())

    @staticmethod
    def call_soon(callback: Callable[[], None]) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback)

    @staticmethod
    def create_future() -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def pass_to(self, now: float) -> None:
        """Let time pass."""
        while self._timers and min(self._timers)[0] <= now:
            timer = min(self._timers)
            self._timers.remove(timer)
            self._now = timer[0]
            timer[1]()
        self._now = now


class _Recorder:
    """A transport that notes what is written to it."""

    def __init__(self, writes: list[bytes], transport: asyncio.Transport | None) -> None:
        self._writes = writes
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        cast(asyncio.Transport, self._transport).write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server:
    """Stands in for Redis: answers HELLO, then says what it is told to."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.asked = asyncio.Event()
        self.writer: asyncio.StreamWriter
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.writer = writer
        await reader.read(65536)
        writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        try:
            while data := await reader.read(65536):
                if b"CLIENT" in data:  # redis-py introduces itself
                    writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
                    continue
                self.received += data
                self.asked.set()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass


@pytest_asyncio.fixture
async def link(redis_process: RedisProcess) -> AsyncIterator[Link]:
    link = await Link.open(RedisSettings(url=SecretStr(redis_process.url)))
    yield link
    link.close()
    await turns()


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[tuple[_Server, Callable[..., Any]]]:
    """A server that is no Redis, and what opens a link to it."""
    fake = _Server()
    links: list[Link] = []
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)

    async def open_link(seconds: float = 1.5, **options: Any) -> Link:
        port = server.sockets[0].getsockname()[1]
        settings = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{port}"), timeout_seconds=seconds)
        links.append(await Link.open(settings, **options))
        return links[-1]

    yield fake, open_link
    for each in links:
        each.close()
    await asyncio.gather(*fake.tasks)
    server.close()
    await server.wait_closed()


async def test_one_reply_for_each_command(link: Link, name: Name) -> None:
    """In order, with values of RESP3; an error of Redis is one of them."""
    key = name("log")
    replies = await link.call(
        [("SET", key, "1"), ("INCR", key), ("XLEN", key), ("GET", key), ("HGETALL", key + "x")]
    )
    assert replies[:2] == [b"OK", 2] or replies[:2] == ["OK", 2]
    assert isinstance(replies[2], CommandFailed)
    assert str(replies[2]).startswith("WRONGTYPE")
    assert replies[3] == b"2"
    assert replies[4] == {}


async def test_calls_are_pipelined(link: Link, name: Name) -> None:
    """Many at once, without waiting for each other; each gets its own."""
    key = name("log")
    calls = [link.call([("INCR", key), ("ECHO", str(i))]) for i in range(100)]
    for i, replies in enumerate(await asyncio.gather(*calls)):
        assert replies == [i + 1, str(i).encode()]


async def test_a_caller_that_goes_away_shifts_nothing(link: Link) -> None:
    """Its reply is dropped, and the next one's is its own."""
    gone = link.call([("ECHO", "gone")])
    gone.cancel()
    assert await link.call([("ECHO", "here")]) == [b"here"]


async def test_pushes_are_no_replies(redis_process: RedisProcess, redis: Redis, name: Name) -> None:
    """What the link read is hinted at when it changes."""
    pushed: asyncio.Queue[list[Any]] = asyncio.Queue()
    link = await Link.open(RedisSettings(url=SecretStr(redis_process.url)), pushed.put_nowait)
    key = name("log")
    await link.call([("CLIENT", "TRACKING", "ON"), ("XLEN", key)])
    await redis.xadd(key, {"data": "1"})
    assert await asyncio.wait_for(pushed.get(), 5) == [b"invalidate", [key.encode()]]
    assert await link.call([("XLEN", key)]) == [1]
    link.close()
    await turns()


async def test_close_fails_what_is_under_way(link: Link) -> None:
    """And every call after it, at once."""
    waiting = link.call([("ECHO", "x")])
    link.close("enough")
    with pytest.raises(Unavailable, match="enough"):
        await waiting
    with pytest.raises(Unavailable):
        await link.call([("ECHO", "x")])
    assert link.closed.result() == "enough"


async def test_a_lost_connection_fails_all_calls(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """Also one whose first replies had come: what Redis did with the rest is unknown."""
    server, open_link = fake
    link = await open_link()
    calls = [link.call([("INCR", "a"), ("INCR", "b")]), link.call([("INCR", "c")])]
    await server.asked.wait()
    server.writer.write(b":1\r\n")
    server.writer.close()
    for call in calls:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(call, 5)
    assert link.closed.done()


async def test_an_unanswered_call_ends_the_connection(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """After the configured time, whoever waits."""
    _, open_link = fake
    link = await open_link(seconds=0.1)
    with pytest.raises(Unavailable, match=r"within 0\.1 s"):
        await asyncio.wait_for(link.call([("INCR", "a")]), 5)
    assert link.closed.done()


async def test_an_answered_call_does_not(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """The deadline is each call's own: a later call gets its whole time."""
    server, open_link = fake
    link = await open_link()
    clock = _Clock()
    link._loop = cast(asyncio.AbstractEventLoop, clock)
    first = link.call([("INCR", "a")])
    await server.asked.wait()
    server.writer.write(b":1\r\n")
    assert await first == [1]
    clock.pass_to(1.0)
    second = link.call([("INCR", "a")])
    clock.pass_to(2.0)  # beyond the first call's deadline
    assert not link.closed.done()
    clock.pass_to(2.6)  # beyond the second one's
    assert link.closed.done()
    with pytest.raises(Unavailable):
        await second


async def test_a_large_reply_may_take_its_time(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """As long as parts of it come; asked for again it would be no smaller."""
    _, open_link = fake
    link = await open_link()
    clock = _Clock()
    link._loop = cast(asyncio.AbstractEventLoop, clock)
    call = link.call([("GET", "large")])
    for at, part in enumerate((b"$9\r\n", b"abc", b"def"), 1):
        clock.pass_to(float(at))
        link.data_received(part)
    clock.pass_to(4.4)
    assert not link.closed.done()
    clock.pass_to(4.6)
    with pytest.raises(Unavailable, match="no answer"):
        await call


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n", b":1\r\n:2\r\n", b"$x\r\n"])
async def test_what_is_no_answer_ends_the_connection(
    garbage: bytes, fake: tuple[_Server, Callable[..., Any]]
) -> None:
    """A reply too many would be taken for the next call's."""
    server, open_link = fake
    link = await open_link()
    call = link.call([("INCR", "a")])
    await server.asked.wait()
    server.writer.write(garbage)
    await asyncio.wait_for(link.closed, 5)
    if garbage.startswith(b":1"):
        assert await call == [1]
    else:
        with pytest.raises(Unavailable):
            await call


async def test_replies_may_come_in_any_pieces(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """Byte by byte, with a push in between."""
    pushes: list[Any] = []
    server, open_link = fake
    link = await open_link(on_push=pushes.append)
    call = link.call([("A",), ("B",)])
    await server.asked.wait()
    for i in b"$3\r\na\r\n\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n*2\r\n:1\r\n_\r\n":
        server.writer.write(bytes([i]))
        await server.writer.drain()
    assert await asyncio.wait_for(call, 5) == [b"a\r\n", [1, None]]
    assert len(pushes) == 1


async def test_the_calls_of_one_step_are_one_write(fake: tuple[_Server, Callable[..., Any]]) -> None:
    """Sixty messages of a chat that one step handles cost one system call, not sixty."""
    server, open_link = fake
    link = await open_link()
    writes: list[bytes] = []
    link._transport = cast(asyncio.Transport, _Recorder(writes, link._transport))
    calls = [link.call([("ECHO", str(i))]) for i in range(60)]
    await server.asked.wait()
    assert len(writes) == 1
    assert writes[0].count(b"ECHO") == 60
    server.writer.write(b"".join(b"$1\r\n%d\r\n" % (i % 10) for i in range(60)))
    assert [await call for call in calls] == [[b"%d" % (i % 10)] for i in range(60)]


async def test_a_redis_that_does_not_read(
    fake: tuple[_Server, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests do not pile up without bound: the next call fails at once, the connection stays."""
    monkeypatch.setattr("service.streams.link.MAX_WRITE_BUFFER", -1)
    _, open_link = fake
    link = await open_link()
    with pytest.raises(Unavailable, match="does not read"):
        await link.call([("INCR", "a")])
    assert not link.closed.done()
