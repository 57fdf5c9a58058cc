"""The life of a process: serve, be unready, drain, shut down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Protocol, cast, runtime_checkable

import uvicorn

from service import workers
from service.app import Node, build_admin_app, build_public_app, read_credentials
from service.config import Settings
from service.drain import Closable, drain
from service.errors import StreamgateError
from service.sections import ServerSettings
from service.transports.handshake import HandshakeProtocol
from service.transports.http import HttpProtocol

logger = logging.getLogger(__name__)

#: Seconds that sessions have to end after the last wave; then they are cut off. A client that never
#: reads must not hold the process.
GRACE = 6

#: Seconds beyond all that before a worker is killed.
MARGIN = 5


#: Connections accepted in one turn of the event loop, each by a descriptor of its own of the same socket:
#: libuv accepts one a descriptor and turn, so a crowd would wait unseen in the kernel's queue.
ACCEPTS = 64


@runtime_checkable
class Abortable(Protocol):
    """A detached connection."""

    def abort(self) -> None:
        """Cut it at once."""


class _Server(uvicorn.Server):
    """uvicorn's server, which on the first signal drains before it shuts down, and on the second does not."""

    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a signal handler: only schedule.
        if self._loop is None or self._node.draining:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._node.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        settings = self._node.settings.server
        logger.info("draining: unready for %g s, then closing sessions", settings.settle_seconds)
        # Still accepting: whoever routes to this node needs a moment to see that it is unready.
        await asyncio.sleep(settings.settle_seconds)
        for server in self.servers:
            server.close()
        connections = cast("list[Closable]", list(self.server_state.connections))
        try:
            await drain(connections, settings.drain_seconds)
        finally:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._draining is not None:
            self._draining.cancel()  # it has ended, unless a second signal came
            await asyncio.gather(self._draining, return_exceptions=True)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Abortable):
                connection.abort()
            else:  # uvicorn's own: HTTP, or a WebSocket in its handshake
                connection.transport.abort()


class _AdminServer(uvicorn.Server):
    """Probes and metrics; it answers until the node has drained, and hears no signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _CannotListen(StreamgateError):
    """An address cannot be listened on; the text names it and the setting."""


def _listen(host: str, port: int, option: str, *, shared: bool = False) -> socket.socket:
    """A bound socket; `shared` by several processes, among which the kernel spreads connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
        if not shared:  # a port can be bound twice before somebody listens
            sock.listen()
    except OSError as exc:
        sock.close()
        raise _CannotListen(f"cannot listen on {host}:{port} ({option}): {exc.strerror}") from None
    return sock


def _listen_public(server: ServerSettings, *, shared: bool) -> socket.socket:
    return _listen(server.host, server.port, "server.host and server.port: --host, --port", shared=shared)


def _listen_admin(server: ServerSettings, index: int) -> socket.socket:
    port = server.admin_port + index if server.admin_port else 0
    option = f"server.admin_port + {index}, for worker {index}" if index else "server.admin_port"
    return _listen(server.admin_host, port, f"{option}: --admin-port")


async def _serve(settings: Settings, public: socket.socket, admin: socket.socket) -> None:
    node = Node(settings)
    common = {"access_log": False, "log_config": None, "http": HttpProtocol, "lifespan": "on"}
    server = _Server(
        uvicorn.Config(
            build_public_app(node),
            ws=HandshakeProtocol,
            ws_max_size=settings.limits.message_bytes,
            ws_per_message_deflate=False,
            backlog=settings.server.backlog,
            timeout_graceful_shutdown=GRACE,
            **common,  # type: ignore[arg-type]
        ),
        node,
    )
    admin_server = _AdminServer(uvicorn.Config(build_admin_app(node), **{**common, "lifespan": "off"}))  # type: ignore[arg-type]
    admin_task = asyncio.create_task(admin_server.serve([admin]))
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker must not outlive whoever can reach it with a signal
        loop = asyncio.get_running_loop()
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel)
    try:
        await server.serve([public, *(public.dup() for _ in range(ACCEPTS - 1))])
    finally:
        admin_server.should_exit = True
        await admin_task


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    logger.warning("the parent process is gone")
    signal.raise_signal(signal.SIGTERM)


def _raise_nofile() -> None:
    """A connection is a file: allow as many as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_node(settings: Settings, index: int, *, shared: bool) -> int:
    """One whole node in this process; returns when it has shut down."""
    import uvloop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn's own records of a connection hold the URL, and so the tokens in it.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # The parser's "connection closed" for each connection.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    _raise_nofile()
    try:
        public = _listen_public(settings.server, shared=shared)
        admin = _listen_admin(settings.server, index)
    except _CannotListen as exc:
        sys.stderr.write(f"streamgate: {exc}\n")
        return workers.CANNOT_START
    host, port = public.getsockname()[:2]
    admin_host, admin_port = admin.getsockname()[:2]
    logger.info(
        "serving ws://%s:%d/connection/websocket; probes and metrics on http://%s:%d",
        host,
        port,
        admin_host,
        admin_port,
    )
    try:
        uvloop.run(_serve(settings, public, admin))
    except KeyboardInterrupt:
        pass  # uvicorn raises again what it has handled
    return 0


def run(settings: Settings) -> int:
    """Serve until a signal ends it; returns the exit status.

    Raises:
        ConfigError: a key, secret or URL of the settings cannot be used.
    """
    read_credentials(settings)  # before anything listens, and once for all workers
    server = settings.server
    if server.workers == 1:
        return _run_node(settings, 0, shared=False)
    # Keeps the port for as long as any worker may want it; never listens itself.
    try:
        keeper = _listen_public(server, shared=True)
    except _CannotListen as exc:
        sys.stderr.write(f"streamgate: {exc}\n")
        return workers.CANNOT_START
    port = keeper.getsockname()[1]
    settings = settings.model_copy(update={"server": server.model_copy(update={"port": port})})
    patience = server.settle_seconds + server.drain_seconds + GRACE + MARGIN
    with keeper:
        return workers.supervise(_worker, (settings,), server.workers, patience)


def _worker(settings: Settings, index: int) -> None:
    workers.can_be_stopped()
    sys.exit(_run_node(settings, index, shared=True))
