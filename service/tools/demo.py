"""`streamgate demo`: a Redis, a node, simulated feeds and a page, all on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from rich.console import Console

from service import config
from service.config import Settings
from service.errors import CommandFailed, StreamgateError, Unavailable
from service.feeds.show import show
from service.feeds.writer import write
from service.keeper import Kept
from service.streams.embedded import EmbeddedRedis, free_port
from service.streams.link import Link
from service.tools.reach import advise, describe, explain

#: The settings of the demo's node.
SETTINGS = Path(__file__).parents[1] / "feeds" / "data" / "demo.toml"

#: Seconds that the node may take until it is ready.
READY_SECONDS = 20.0

#: Seconds between two looks at the node while it starts and runs.
_POLL_SECONDS = 0.1

#: Seconds that the node may take to end, before it is killed.
_STOP_SECONDS = 2.5

#: Seconds to wait before the feeds go on, when Redis went away.
_RETRY_SECONDS = 1.0

#: Lines of the node's log that are shown when it dies.
_LOG_LINES = 15


class DemoFailed(StreamgateError):
    """The demo cannot start or go on; the text says why."""


class _Node(NamedTuple):
    process: Kept
    url: str
    admin_port: int
    log: IO[bytes]


def run(*, host: str, port: int, redis_url: str | None, verbose: bool) -> int:
    """Run the demo and return the exit code, 0 after Ctrl-C or SIGTERM.

    Args:
        host: address of the page.
        port: of the page; a free one is taken, and said, where it is in use.
        redis_url: an existing Redis; None: start one.
        verbose: show the node's log on stderr rather than keeping it for the case that it dies.

    Raises:
        DemoFailed: the node did not start, or died.
        Unavailable: no Redis is installed, or it does not start.
        ConfigError: a STREAMGATE_* variable is wrong.
    """
    console = Console(highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        embedded = None
        if redis_url is None:
            embedded = stack.enter_context(EmbeddedRedis(port=0))
            redis_url = embedded.url
        settings = config.load(SETTINGS, {"redis": {"url": redis_url}})
        if embedded is None:
            asyncio.run(_try_redis(settings))
        chosen = _choose_port(host, port)
        if chosen != port and port:
            console.print(f"[yellow]Port {port} is taken; using {chosen}.[/yellow]")
        log: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
        node = _start_node(host, chosen, redis_url, None if verbose else log, log)
        stack.callback(node.process.stop)
        try:
            asyncio.run(_demonstrate(console, node, settings, embedded))
        except KeyboardInterrupt:
            pass  # before the loop had its own handler
        console.print("\n[dim]Stopping …[/dim]")
    return 0


async def _try_redis(settings: Settings) -> None:
    """Raise if it cannot be used; the node would only wait for it."""
    try:
        link = await Link.open(settings.redis)
    except Unavailable as exc:
        advice = advise(exc)
        text = f"Redis at {describe(settings)}: {explain(exc)}{'; ' if advice else ''}{advice}"
        raise DemoFailed(text) from None
    link.close()


def _choose_port(host: str, port: int) -> int:
    """The wanted port, or a free one."""
    if port == 0:
        return free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except PermissionError:
            raise DemoFailed(f"port {port} is not allowed to this user; choose one above 1023") from None
        except socket.gaierror as exc:
            raise DemoFailed(f"--host {host}: {exc.strerror}") from None
        except OSError as exc:
            if exc.strerror and "in use" not in exc.strerror:
                raise DemoFailed(f"--host {host}: {exc.strerror}") from None
            return free_port()
    return port


def _start_node(host: str, port: int, redis_url: str, output: IO[bytes] | None, log: IO[bytes]) -> _Node:
    admin_port = free_port()
    # The package's own directory comes first, wherever the demo is started (-P: and not that place);
    # URL and secret go by the environment, since anybody may read a command line.
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    secret = json.dumps([secrets.token_hex(32)])  # signs who visitors are, until the demo ends
    environment = {"STREAMGATE_TOKENS__HMAC_SECRETS": secret, **os.environ}  # unless there is one already
    environment |= {"PYTHONPATH": path, "STREAMGATE_REDIS__URL": redis_url}
    command = [sys.executable, "-P", "-m", "service", "serve", "--config", str(SETTINGS)]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--admin-port", str(admin_port)]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    return _Node(Kept(command, grace=_STOP_SECONDS, output=output, env=environment), url, admin_port, log)


async def _demonstrate(
    console: Console, node: _Node, settings: Settings, embedded: EmbeddedRedis | None
) -> None:
    """From the node's start to the signal that ends the demo."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    work = [
        asyncio.create_task(_present(console, node, settings, embedded)),
        asyncio.create_task(_watch(node, embedded)),
    ]
    try:
        done, _ = await asyncio.wait([stopped, *work], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            await task
    finally:
        await _cancel({stopped, *work})


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """End the tasks, asking until they do: Python 3.11's wait_for may swallow a cancellation."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_POLL_SECONDS)


async def _watch(node: _Node, embedded: EmbeddedRedis | None) -> NoReturn:
    """Return never; raise when a process has died."""
    while True:
        code = node.process.returncode
        if code is not None:
            node.log.seek(0)
            lines = node.log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
            raise DemoFailed("\n".join([*lines, f"the node ended with exit code {code}"]))
        if embedded is not None and not embedded.alive:
            raise DemoFailed("the embedded Redis ended")
        await asyncio.sleep(_POLL_SECONDS)


async def _present(console: Console, node: _Node, settings: Settings, embedded: EmbeddedRedis | None) -> None:
    """Wait for the node, print where it is, and feed it; never returns."""
    with console.status("Starting …"):
        await _until_ready(node)
    _greet(console, node, settings, embedded)
    while True:
        try:
            await _feed(settings)
        except (Unavailable, CommandFailed):
            # An existing Redis may go away and come back; the feeds begin anew.
            await asyncio.sleep(_RETRY_SECONDS)


async def _feed(settings: Settings) -> None:
    """Write the simulated feeds, until Redis goes away."""

    @functools.cache
    def maxlen(channel: str) -> int:
        namespace = settings.namespace_of(channel)
        assert namespace is not None, f"the demo's settings lack a namespace for {channel}"
        return namespace.history_size

    link = await Link.open(settings.redis)
    try:
        await write(show(random.Random()), link.call, key_prefix=settings.redis.key_prefix, maxlen=maxlen)
    finally:
        link.close()


async def _until_ready(node: _Node) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while await _status(node.admin_port) != 200:  # noqa: ASYNC110 - another process, no event
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise DemoFailed(f"the node was not ready in {READY_SECONDS:g} s; --verbose shows its log") from None


async def _status(admin_port: int) -> int:
    """The HTTP status of /readyz; 0 while nobody answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
    except OSError:
        return 0
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        words = (await reader.readline()).split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    except OSError:
        return 0
    finally:
        writer.close()


def _greet(console: Console, node: _Node, settings: Settings, embedded: EmbeddedRedis | None) -> None:
    place = describe(settings)
    own = " [dim](its own, in memory)[/dim]" if embedded else ""
    websocket = node.url.replace("http", "ws", 1) + "connection/websocket"
    console.print(
        f"\n  [bold]Streamgate[/bold] is running: [bold cyan]{node.url}[/bold cyan]\n\n"
        f"  Redis      {place}{own}\n"
        f"  WebSocket  {websocket}\n"
        f"  Metrics    http://127.0.0.1:{node.admin_port}/metrics\n\n"
        "  Publish from another terminal:\n"
    )
    streamgate, payload = _executable(), """'{"user":"me","text":"hello"}'"""
    if embedded is not None:
        command = f"{streamgate} publish chat:lobby {payload} --redis-url {embedded.url}"
        if shutil.which("redis-cli"):
            command = f"redis-cli -p {embedded.port} XADD chat:lobby '*' data {payload}"
        console.print(f"    {command}", style="dim", markup=False)
    console.print(f"    {streamgate} subscribe chat:lobby --url {websocket}", style="dim", markup=False)
    console.print("\n  [dim]Ctrl-C stops everything.[/dim]")


def _executable() -> str:
    """What to type for `streamgate` on this machine."""
    script = Path(sys.argv[0])
    if script.name != "streamgate":
        return f"{shlex.quote(sys.executable)} -m service"
    found = shutil.which("streamgate")
    return "streamgate" if found and Path(found).samefile(script) else shlex.quote(str(script.absolute()))
