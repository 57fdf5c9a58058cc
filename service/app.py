"""The composition root: builds every object of a node once, and routes HTTP to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from service.api.admin import admin_routes
from service.api.demo import demo_token_route
from service.api.page import WEB, page
from service.api.server import api_keys, api_routes
from service.chat.chat import Chat
from service.config import Settings
from service.hub.flusher import Flusher
from service.hub.hub import Hub
from service.hub.window import WindowBudget
from service.identity.hooks import Hooks
from service.identity.tokens import TokenVerifier
from service.metrics import Metrics
from service.session.admission import Admission
from service.session.bans import Bans
from service.session.context import Context
from service.session.emulated import Emulated
from service.session.orders import Orders
from service.session.outside import Outside
from service.session.users import Users
from service.session.wheel import Wheel
from service.streams.commands import Commands
from service.streams.control import Control
from service.streams.history import EPOCH_TTL, History
from service.streams.keys import Keys
from service.streams.mailbox import Mailbox
from service.streams.presence import Presence
from service.streams.publish import Publisher
from service.streams.rates import Rates
from service.streams.reports import Reports
from service.streams.tail import Tail
from service.streams.trim import Trimmer
from service.tasks import Tasks
from service.transports.cors import Cors
from service.transports.emulation import EmulationEndpoint
from service.transports.endpoint import no_such_path, websocket_endpoint
from service.transports.http import ADMISSION, HTTP_STREAM_PATH, SSE_PATH
from service.transports.origins import Origins, origin_allowed
from service.transports.streaming import http_stream_endpoint, sse_endpoint

logger = logging.getLogger(__name__)

#: Seconds a changed channel may wait to be read before the node calls itself unready.
MAX_TAIL_LAG = 5.0

#: Allocations between two collections of the young, and collections of these between those of the older.
GC_THRESHOLD = (20_000, 50, 500)

#: Seconds between two looks at the event loop.
LAG_PERIOD = 0.1


def read_credentials(settings: Settings) -> None:
    """Read the keys, secrets and URLs of the settings as a node does when it starts.

    Raises:
        ConfigError: one of them cannot be read or used.
    """
    metrics = Metrics()
    TokenVerifier(settings.tokens, metrics)
    Hooks(settings.hooks, metrics)
    api_keys(settings.api)


class Node:
    """One node: the tail, the hub, and what sessions share. Use as `async with node.running():`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = metrics = Metrics()
        self.draining = False
        self._longest_lag = 0.0
        redis, limits = settings.redis, settings.limits
        keys = Keys(redis.key_prefix)
        self.commands = Commands(redis, metrics)
        history = self._history = History(
            self.commands,
            keys,
            limits.publication_bytes,
            metrics,
            # Half the outbox, as for recoveries: a page that filled it would close the client as slow.
            page_bytes=limits.outbox_bytes // 2,
            epoch_seconds=max(EPOCH_TTL, round(4 * redis.sweep_seconds)),
        )
        self.flusher = Flusher(limits.outbox_total_bytes)
        self.hub = Hub(
            self.flusher,
            WindowBudget(limits.window_total_bytes),
            redis.unfollow_seconds,
            self.redis_time,
            metrics,
        )
        self.tail = Tail(redis, keys, history, self.hub, limits.publication_bytes, metrics)
        self.hub.attach(self.tail)
        self._trimmer = Trimmer(self.commands, keys, settings.namespace_of, redis.trim_seconds, metrics)
        self._wheel = Wheel()
        self._tasks = Tasks()
        name = secrets.token_hex(8)
        self._control = control = Control(self.commands, keys, self.hub, metrics)
        self._presence = Presence(settings.presence, self.commands, keys, name, metrics)
        self._tokens = TokenVerifier(settings.tokens, metrics)
        self._hooks = Hooks(settings.hooks, metrics)
        self.chat = Chat(self.commands, keys, limits.publication_bytes, control, metrics)
        self.admission = Admission(limits, metrics)
        bans, users, emulated = Bans(self.chat.moderation, self._tasks), Users(), Emulated()
        self.mailbox = Mailbox(name, self.commands, keys, self.hub, emulated)
        self.context = Context(
            node=name,
            settings=settings,
            keys=keys,
            hub=self.hub,
            flusher=self.flusher,
            history=history,
            publisher=Publisher(self.commands, keys, metrics),
            rates=Rates(self.commands, keys),
            presence=self._presence,
            chat=self.chat,
            bans=bans,
            tokens=self._tokens,
            hooks=self._hooks,
            control=control,
            reports=Reports(settings.presence, self.commands, keys),
            users=users,
            emulated=emulated,
            admission=self.admission,
            wheel=self._wheel,
            tasks=self._tasks,
            metrics=metrics,
        )
        control.attach(Orders(users, bans, Outside(self.context)))

    def redis_time(self) -> float:
        """Seconds since the epoch by Redis' clock."""
        return time.time() + self.commands.clock_offset

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what runs all the time; if any of it fails the node drains and ends, loudly."""
        metrics = self.metrics
        metrics.queue_bytes.set_function(lambda: self.flusher.held)
        metrics.slow_consumers.set_function(lambda: len(self.flusher.blocked))
        metrics.tail_lag.set_function(self.tail.lag)
        metrics.draining.set_function(lambda: float(self.draining))
        metrics.loop_lag_max.set_function(self._take_longest_lag)
        # Presence has something to write to the end.
        links = _start(self.commands.run(), self.tail.run())
        work = _start(
            self._trimmer.run(),
            self._control.run(),
            self.mailbox.run(),
            self._presence.run(),
            self._tokens.run(),
            self._wheel.run(),
            self._watch_loop(),
        )
        # What exists now stays: the collector need not look at it again. Neither a handshake nor a session
        # leaves garbage that only the collector finds, and a look at 10,000 of them stalls the loop.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        try:
            yield
        finally:
            await self._tasks.aclose()
            await _end(work)
            await self.mailbox.aclose()
            await self._presence.aclose()
            await self._hooks.aclose()
            await self._tokens.aclose()
            await self.hub.aclose()
            await self._history.aclose()
            await _end(links)

    async def _watch_loop(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_PERIOD)
            lag = max(0.0, time.monotonic() - before - LAG_PERIOD)
            self._longest_lag = max(self._longest_lag, lag)
            self.metrics.loop_lag.observe(lag)

    def _take_longest_lag(self) -> float:
        longest, self._longest_lag = self._longest_lag, 0.0
        return longest

    def problems(self) -> list[str]:
        """Why the node is not ready; empty when it is."""
        found = []
        if self.draining:
            found.append("draining")
        if not self.commands.connected or not self.tail.connected:
            found.append("no connection to Redis")
        elif self.commands.refusal is not None:
            found.append(self.commands.refusal)
        elif self.tail.lag() > MAX_TAIL_LAG:
            found.append("the tail is behind")
        elif not self.context.control.ready:
            found.append("commands to all nodes are not heard yet")
        return found


def _start(*work: Coroutine[None, None, None]) -> list[asyncio.Task[None]]:
    """Run what is to run for as long as the node does."""
    running = [asyncio.create_task(coroutine) for coroutine in work]
    for task in running:
        task.add_done_callback(_must_not_end)
    return running


async def _end(running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _must_not_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.critical("the node cannot go on", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)


def build_public_app(node: Node) -> Starlette:
    """What clients reach."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with node.running():
            yield {ADMISSION: node.admission}

    cors = Cors(Origins(node.settings.server.allowed_origins, node.metrics))
    routes: list[Any] = [
        WebSocketRoute("/connection/websocket", websocket_endpoint(node.context)),
        Route(SSE_PATH, sse_endpoint(node.context, cors)),
        Route(HTTP_STREAM_PATH, http_stream_endpoint(node.context, cors)),
        Route("/emulation", EmulationEndpoint(node.context, node.mailbox, cors)),
        WebSocketRoute("/{path:path}", no_such_path),
    ]
    if node.settings.server.demo_page:
        routes.append(Route("/", page))
        routes.append(demo_token_route(node.settings, origin_allowed))
        routes.append(Mount("/static", StaticFiles(directory=WEB)))
    return Starlette(routes=routes, lifespan=lifespan)


def build_admin_app(node: Node) -> Starlette:
    """What operators and the application reach: probes, metrics, the server API."""
    return Starlette(routes=[*admin_routes(node.problems, node.metrics), *api_routes(node.context)])
