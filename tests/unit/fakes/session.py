"""A node without Redis and sockets, and clients whose sessions work with it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import orjson

from service.channels import Namespace
from service.config import Settings
from service.errors import Disconnect
from service.hub.publication import Publication, StreamId, WireFormat
from service.identity.hooks import Hooks
from service.identity.tokens import TokenVerifier
from service.session.admission import Admission
from service.session.bans import Bans
from service.session.codec import JSON, Codec
from service.session.context import Context
from service.session.emulated import Emulated
from service.session.session import Session
from service.session.users import Users
from service.session.wheel import Wheel
from service.streams.history import Page, Since
from service.streams.keys import Keys
from service.tasks import Tasks
from tests.unit.fakes.fanout import EPOCH, LINES, HubWorld


class FakeTransport:
    """A transport that keeps what it is told."""

    secret = ""

    def __init__(self) -> None:
        self.format: WireFormat = LINES
        self.codec: Codec = JSON
        self.written: list[bytes] = []
        self.closed: list[Disconnect] = []
        self.aborted = 0
        self.paused = 0

    def transmit(self, data: bytes) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def finish(self, data: bytes) -> None:
        self.written.append(bytes(data))

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


class FakePresence:
    """Who is where, as the sessions of one node say."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, bytes]] = {}
        self.users: dict[str, str] = {}

    def join(self, channel: str, client: str, user: str, info: bytes, *, events: bool) -> None:
        self.there.setdefault(channel, {})[client] = info
        self.users[client] = user or client

    def leave(self, channel: str, client: str, *, at_once: bool) -> None:
        self.there.get(channel, {}).pop(client, None)

    async def members(self, channel: str) -> dict[str, bytes]:
        return dict(self.there.get(channel, {}))

    async def stats(self, channel: str) -> tuple[int, int]:
        clients = self.there.get(channel, {})
        return len(clients), len({self.users[client] for client in clients})


class FakeControl:
    """Nobody's tokens are revoked but those of `gone`, and of `before` what was issued up to then."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.before: dict[str, float] = {}
        self.ready = True

    def revoked(self, user: str, issued_at: float | None) -> bool:
        before = self.before.get(user)
        return user in self.gone or (before is not None and (issued_at is None or issued_at <= before))


class FakeBans:
    """Where bans are written down."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, int]] = {}

    @property
    def now(self) -> int:
        return int(time.time() * 1000)

    async def bans(self, channel: str) -> dict[str, int]:
        return self.rooms.get(channel, {})


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
        self.presence, self.control, self.users = FakePresence(), FakeControl(), Users()
        self.wheel = Wheel()
        self.tasks = Tasks()
        self.bans = Bans(FakeBans(), self.tasks)
        self.context = Context(
            node="node",
            settings=self.settings,
            hub=self.hub,
            flusher=self.hub_world.flusher,
            history=cast(Any, self.history),
            publisher=cast(Any, self.publisher),
            keys=Keys(""),
            rates=cast(Any, None),
            presence=cast(Any, self.presence),
            chat=cast(Any, None),
            bans=self.bans,
            tokens=TokenVerifier(self.settings.tokens, self.metrics),
            hooks=Hooks(self.settings.hooks, self.metrics),
            reports=cast(Any, None),
            control=cast(Any, self.control),
            users=self.users,
            emulated=Emulated(),
            admission=Admission(self.settings.limits, self.metrics),
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
    def answers(self) -> list[Any]:
        """All answers and pushes that have been written, decoded."""
        return [orjson.loads(line) for line in self.received if line.startswith(b"{")]

    @property
    def ids(self) -> list[int]:
        """The ids of the answers, in their order."""
        return [answer["id"] for answer in self.answers]

    @property
    def close_code(self) -> int:
        return self.transport.closed[0].code if self.transport.closed else 0


def publish_command(number: int, channel: str = "log:a", data: bytes = b"1") -> bytes:
    """The line of a publish."""
    return b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (number, channel.encode(), data)


def subscribe_command(number: int, channel: str = "log:a") -> bytes:
    """The line of a subscribe."""
    return b'{"id":%d,"subscribe":{"channel":"%b"}}' % (number, channel.encode())
