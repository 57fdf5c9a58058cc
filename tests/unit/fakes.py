"""What stands in for the world in unit tests: time, sockets, wire formats, feeds, transports."""

from __future__ import annotations

import asyncio
import functools
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, cast

from service.channels import Namespace
from service.config import Settings
from service.errors import Disconnect
from service.hub.flusher import Flusher
from service.hub.hub import Hub
from service.hub.outbox import Outbox
from service.hub.publication import Publication, WireFormat
from service.hub.window import StreamId, WindowBudget
from service.metrics import Metrics
from service.session.context import Context
from service.session.session import Session
from service.session.wheel import Wheel
from service.streams.followed import Start
from service.streams.history import Page, Since
from service.streams.position import below, to_offset
from service.tasks import Tasks
from service.transports.parsers import Parsers
from service.transports.websocket import WebSocketConnection

P = ParamSpec("P")

#: The epoch of channels that `FakeFeed` begins.
EPOCH = "epoch-1"


# Time


class _IdleSelector(selectors.SelectSelector):
    """Instead of waiting, makes time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "the test waits for something that never comes"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as there is nothing to do."""

    def __init__(self) -> None:
        self._idle = _IdleSelector()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test without I/O in a loop where waiting takes no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class LoopTime:
    """Stands in for the module `time`: the running loop's clock."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    perf_counter = monotonic

    @staticmethod
    def time() -> float:
        return 1_700_000_000 + asyncio.get_running_loop().time()


class Clock:
    """Stands in for the module `time`: moved by hand, and by `step` with each look at it."""

    def __init__(self, *, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    perf_counter = time = monotonic


async def turns(count: int = 5) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


# Fan-out


def publication(number: int, data: bytes = b"{}") -> Publication:
    """The publication whose id is `(number, 0)`."""
    return Publication((number, 0), to_offset((number, 0)), data)


class LineFormat:
    """A wire format that is easy to read: `channel number data`, a line each."""

    def publications(self, channel: str, publications: Any) -> bytes:
        return b"".join(
            b"%b %d %b\n" % (channel.encode(), p.id[0], p.json[8 : p.json.index(b',"offset')])
            for p in publications
        )


LINES = LineFormat()


class FakeOwner:
    """Counts why its outbox gave up."""

    def __init__(self) -> None:
        self.id = "owner"
        self.reasons: list[str] = []
        self.on_overflow: Callable[[], None] = lambda: None
        self.on_gap: Callable[[str], None] = lambda channel: None

    def info(self) -> bytes:
        return b'{"client":"owner"}'

    def unsubscribed(self, channel: str) -> None:
        self.on_gap(channel)

    def overflow(self, reason: str) -> None:
        self.reasons.append(reason)
        self.on_overflow()


class FakeSocket:
    """Takes what it is given; once `room` bytes are taken it is full, and says so as a transport does."""

    def __init__(self, flusher: Flusher, *, limit: int = 1_000_000, room: int | None = None) -> None:
        self.writes: list[bytes] = []
        self.room = room
        self.owner = FakeOwner()
        self.outbox = Outbox(self.owner, self.write, LINES, flusher, limit)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.room is not None:
            self.room -= len(data)
            if self.room <= 0:
                self.outbox.block()

    def open(self, room: int | None = None) -> None:
        """The client reads again, `room` bytes or everything."""
        self.room = room
        self.outbox.unblock()

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def numbers(self, channel: str) -> list[int]:
        """The publications of a channel, in the order in which they were written."""
        found = [line.split(b" ") for line in self.written.splitlines()]
        return [int(words[1]) for words in found if words[0] == channel.encode()]


def actually_held(outbox: Outbox) -> int:
    """What `held` must be: the bytes that wait behind a full socket."""
    if not outbox.blocked:
        return 0
    return sum(map(len, outbox.pending)) + sum(map(len, (outbox.conflated or {}).values()))


class FakeFeed:
    """A `Feed` that begins each channel at `start`, at once or when `go` is set."""

    def __init__(self) -> None:
        self.hub: Hub
        self.start = start_at(10)
        self.go = asyncio.Event()
        self.go.set()
        self.failure: Exception | None = None
        self.followed: list[str] = []
        self.unfollowed: list[str] = []
        self.synced: list[str] = []
        self.on_sync: Callable[[], None] = lambda: None

    async def follow(self, channel: str, namespace: Namespace) -> None:
        self.followed.append(channel)
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        self.hub.begin(channel, self.start)

    def unfollow(self, channel: str) -> None:
        self.unfollowed.append(channel)

    async def sync(self, channel: str) -> None:
        self.synced.append(channel)
        await asyncio.sleep(0)
        self.on_sync()


def start_at(number: int, newest: Publication | None = None, epoch: str = EPOCH) -> Start:
    """A channel's start at the id `(number, 0)`."""
    cursor = (number, 0)
    return Start(cursor, epoch, newest, below(newest.id) if newest else cursor)


class HubWorld:
    """A hub with its flusher and a fake feed; made inside a running loop."""

    def __init__(self, *, linger: float = 5.0, held_limit: int = 10**9, window_bytes: int = 10**9) -> None:
        self.metrics = Metrics()
        self.flusher = Flusher(held_limit)
        self.budget = WindowBudget(window_bytes)
        self.hub = Hub(
            self.flusher,
            self.budget,
            linger,
            lambda: 0.0,
            self.metrics,
        )
        self.gaps: list[tuple[Outbox, str]] = []
        self.feed = FakeFeed()
        self.feed.hub = self.hub
        self.hub.attach(self.feed)

    def socket(self, *, limit: int = 1_000_000, room: int | None = None) -> FakeSocket:
        sock = FakeSocket(self.flusher, limit=limit, room=room)
        sock.owner.on_gap = lambda channel: self.gaps.append((sock.outbox, channel))
        return sock

    async def subscribed(self, name: str, namespace: Namespace, *sockets: FakeSocket) -> None:
        """Subscribe these sockets."""
        for sock in sockets:
            channel = await self.hub.hold(name, namespace)
            self.hub.add(channel, sock.outbox)
            self.hub.release(channel)

    def deliver(self, name: str, *numbers: int, data: bytes = b"{}", flush: bool = True) -> None:
        """What the tail does."""
        self.hub.deliver(name, [publication(n, data) for n in numbers], (numbers[-1], 0))
        if flush:
            self.hub.flush()


# Sessions


class FakeTransport:
    """A transport that keeps what it is told."""

    name = "fake"

    def __init__(self) -> None:
        self.format: WireFormat = LINES
        self.written: list[bytes] = []
        self.closed: list[Disconnect] = []
        self.aborted = 0
        self.paused = 0

    def transmit(self, data: bytes) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def frame(self, message: bytes) -> bytes:
        return message + b"\n"

    def close(self, disconnect: Disconnect) -> None:
        self.closed.append(disconnect)

    def abort(self) -> None:
        self.aborted += 1

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


class FakeHistory:
    """Answers what it was set up with; `go` lets the answers through."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.calls: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.since_answer = Since(True, [], (10, 0))
        self.newest_answer: Publication | None = None
        self.page_answer = Page([], (10, 0))

    async def _answer(self, *call: Any) -> None:
        self.calls.append(call)
        await self.go.wait()
        if self.failure is not None:
            raise self.failure

    async def epoch(self, channel: str) -> str:
        await self._answer("epoch", channel)
        return EPOCH

    async def since(self, channel: str, namespace: Namespace, position: StreamId, limit: int) -> Since:
        await self._answer("since", channel, position, limit)
        return self.since_answer

    async def newest(self, channel: str, namespace: Namespace) -> Publication | None:
        await self._answer("newest", channel)
        return self.newest_answer

    async def page(
        self, channel: str, namespace: Namespace, since: StreamId | None, limit: int, *, reverse: bool
    ) -> Page:
        await self._answer("page", channel, since, limit, reverse)
        return self.page_answer


class FakePublisher:
    """Keeps what is published; `gates` holds back single publications by their data."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bytes | None]] = []
        self.begun: list[bytes] = []
        self.gates: dict[bytes, asyncio.Event] = {}
        self.failure: Exception | None = None

    async def publish(
        self, channel: str, namespace: Namespace, data: bytes, info: bytes | None = None
    ) -> StreamId:
        self.begun.append(data)
        if data in self.gates:
            await self.gates[data].wait()
        else:
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.published.append((channel, data, info))
        return (1, 0)


#: Namespaces of the sessions' tests.
NAMESPACES = {
    "log": Namespace(mode="log", publish="anonymous", presence="anonymous"),
    "latest": Namespace(mode="latest", snapshot=True),
    "closed": Namespace(subscribe="nobody", history="nobody"),
}


class World:
    """A node without Redis and sockets: everything a session works with; made inside a running loop."""

    def __init__(self, **limits: Any) -> None:
        self.settings = Settings(namespaces=NAMESPACES, limits=cast(Any, limits), default_namespace="log")
        outbox_total = self.settings.limits.outbox_total_bytes
        self.hub_world = HubWorld(held_limit=outbox_total)
        self.hub, self.feed = self.hub_world.hub, self.hub_world.feed
        self.metrics = self.hub_world.metrics
        self.history = FakeHistory()
        self.publisher = FakePublisher()
        self.wheel = Wheel()
        self.tasks = Tasks()
        self.context = Context(
            node="node",
            settings=self.settings,
            hub=self.hub,
            flusher=self.hub_world.flusher,
            history=cast(Any, self.history),
            publisher=cast(Any, self.publisher),
            wheel=self.wheel,
            tasks=self.tasks,
            metrics=self.metrics,
        )

    def client(self, *, connected: bool = True) -> FakeClient:
        return FakeClient(self, connected=connected)


class FakeClient:
    """A session and its transport, as its client sees them."""

    def __init__(self, world: World, *, connected: bool) -> None:
        self.transport = FakeTransport()
        self.session = Session(world.context, self.transport)
        if connected:
            self.send(b'{"id":1,"connect":{}}')
            self.session.outbox.flush()
            self.transport.written.clear()

    def send(self, *lines: bytes) -> None:
        self.session.receive(b"\n".join(lines))

    @property
    def received(self) -> list[bytes]:
        """All that has been written, line by line, after a flush."""
        if not self.session.outbox.blocked:
            self.session.outbox.flush()
        return b"".join(self.transport.written).splitlines()

    @property
    def close_code(self) -> int:
        return self.transport.closed[0].code if self.transport.closed else 0


# WebSocket


class FakeSocketTransport:
    """An asyncio transport over one end of a socket pair; the other end is the client's.

    What the socket does not take is kept and pauses writing, as a real transport with a write limit of 0.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        for sock in (self._ours, self._theirs):
            sock.setblocking(False)
        self.protocol: Any = None
        self.buffer = b""
        self.paused = False
        self.closing = False
        self.aborted = False

    def end(self) -> None:
        self._ours.close()
        self._theirs.close()

    def get_extra_info(self, name: str) -> Any:
        return self._ours if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def write(self, data: bytes) -> None:
        if self.closing:
            return
        if not self.buffer:
            try:
                data = data[self._ours.send(data) :]
            except BlockingIOError:
                pass
        if data:
            was_empty = not self.buffer
            self.buffer += data
            if was_empty:
                self.protocol.pause_writing()

    def flush(self) -> None:
        """The socket may have room again: what the event loop would notice."""
        if self.buffer:
            try:
                self.buffer = self.buffer[self._ours.send(self.buffer) :]
            except BlockingIOError:
                return
            if not self.buffer:
                self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def received(self) -> bytes:
        """What the client finds in its socket now."""
        found = b""
        while True:
            try:
                data = self._theirs.recv(1 << 20)
            except BlockingIOError:
                return found
            found += data


class RawClient:
    """A connection of the server, and a client that sends it bytes."""

    def __init__(self, world: World, parsers: Parsers, *, connected: bool = True) -> None:
        self.transport = FakeSocketTransport()
        self.connection = WebSocketConnection(world.context, parsers, cast(asyncio.Transport, self.transport))
        self.transport.protocol = self.connection
        self.connections: set[Any] = {self.connection}
        self.connection.attached(self.connections, b"")
        if connected:
            self.send(client_frame(b'{"id":1,"connect":{}}'))
            self.session.outbox.flush()
            self.transport.received()

    @property
    def session(self) -> Session:
        return self.connection._session

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def frames(self) -> list[tuple[int, bytes]]:
        """What the client has received since the last time: opcodes and payloads."""
        if not self.session.outbox.blocked:
            self.session.outbox.flush()
        return server_frames(self.transport.received())

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that came last."""
        found = [payload for opcode, payload in self.frames() if opcode == CLOSE]
        return int.from_bytes(found[-1][:2], "big") if found else None

    def end(self) -> None:
        """The connection is lost."""
        self.connection.connection_lost(None)
        self.transport.end()


CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def client_frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, mask: bytes = b"\x01\x02\x03\x04", width: int = 0
) -> bytes:
    """A masked frame. `width`: bytes of the extended length (2 or 8); 0: no more than are needed."""
    size = len(payload)
    width = width or (0 if size < 126 else 2 if size < 65_536 else 8)
    marker = {0: size, 2: 126, 8: 127}[width]
    head = bytes([0x80 * fin | opcode, 0x80 | marker])
    extended = size.to_bytes(width, "big") if width else b""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + extended + mask + masked


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take apart what a server has sent."""
    found = []
    while data:
        assert data[0] & 0x80, "a server does not fragment"
        assert not data[1] & 0x80, "a server does not mask"
        size, at = data[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        assert len(data) >= at + size, "an incomplete frame"
        found.append((data[0] & 0x0F, data[at : at + size]))
        data = data[at + size :]
    return found
