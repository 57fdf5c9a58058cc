"""`streamgate demo`: starts, feeds, and stops as a whole."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from service.client import Client
from service.client.events import Event, Publication
from tests.e2e.conftest import StartDemo
from tests.support.processes import free_port
from tests.support.redis_process import RedisProcess
from tests.support.waiting import DEADLINE, eventually

#: As those of the page, with which they share fixtures.
pytestmark = pytest.mark.asyncio(loop_scope="session")

READY = r"is running: (http://\S+)"


def children(pid: int) -> list[int]:
    """All processes below one, as Linux lists them."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


def command(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def named(pids: list[int], pattern: str) -> int:
    """The innermost process whose command line matches: watchers name it too."""
    return [pid for pid in pids if re.search(pattern, command(pid))][-1]


async def ended(pids: list[int]) -> None:
    """Wait until none of the processes is left."""
    await eventually(lambda: not any(map(command, pids)), "all processes of the demo have ended")


async def test_it_feeds_every_kind_of_channel(start_demo: StartDemo) -> None:
    """Quotes, scores and chat reach a client by the printed URL."""
    demo = await start_demo()
    url = (await demo.until(READY))[1]
    websocket = (await demo.until(r"WebSocket\s+(ws://\S+)"))[1]
    seen: dict[str, asyncio.Event] = {
        channel: asyncio.Event() for channel in ("quotes:AAPL", "quotes:TSLA", "scores:live", "chat:lobby")
    }

    def on_event(event: Event) -> None:
        if isinstance(event, Publication) and event.tags.get("snapshot") != "true":
            seen[event.channel].set()

    async with httpx.AsyncClient(trust_env=False) as browser:
        token = (await browser.post(f"{url}demo/token", json={"name": "test"})).json()["token"]
    async with Client(websocket, on_event=on_event, token=token) as client:
        for channel in seen:
            await client.subscribe(channel)
        await client.publish("chat:lobby", {"text": "visitors with a name may chat"})
        async with asyncio.timeout(DEADLINE):
            for event in seen.values():
                await event.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything(start_demo: StartDemo, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end all processes, in order and without a traceback, with exit code 0."""
    demo = await start_demo()
    await demo.until("Ctrl-C")
    below = children(demo.process.pid)
    assert len(below) >= 4  # two watchers, Redis, the node
    os.kill(demo.process.pid, number)
    printed = await demo.rest()
    assert demo.process.returncode == 0
    assert "Traceback" not in printed
    await ended(below)


async def test_a_killed_demo_takes_its_children_along(start_demo: StartDemo) -> None:
    """SIGKILL leaves neither a node nor a Redis behind."""
    demo = await start_demo()
    await demo.until("Ctrl-C")
    below = children(demo.process.pid)
    demo.process.kill()
    await demo.process.wait()
    await ended(below)


@pytest.mark.parametrize(
    ("pattern", "said"), [(r"-m service serve", "the node ended"), (r"redis-server|valkey", "Redis")]
)
async def test_it_says_so_when_a_part_dies(start_demo: StartDemo, pattern: str, said: str) -> None:
    """When the node or Redis dies the demo ends with 1, says which, and stops the other."""
    demo = await start_demo()
    await demo.until("Ctrl-C")
    below = children(demo.process.pid)
    os.kill(named(below, pattern), signal.SIGKILL)
    printed = await demo.rest()
    assert demo.process.returncode == 1
    assert said in printed.splitlines()[-1]
    assert "Traceback" not in printed
    await ended(below)


async def test_a_taken_port_is_changed_and_said(start_demo: StartDemo) -> None:
    """Where the port is taken another one is, with a note."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        demo = await start_demo("--port", str(port))
        changed = await demo.until(rf"Port {port} is taken; using (\d+)")
        url = (await demo.until(READY))[1]
    assert url == f"http://127.0.0.1:{changed[1]}/"


async def test_an_existing_redis(
    start_demo: StartDemo, redis_process: RedisProcess, connect_redis: Callable[[str], Redis]
) -> None:
    """--redis-url feeds a Redis that is there already, and leaves it running."""
    url = redis_process.url.removesuffix("/0") + "/9"
    demo = await start_demo("--port", str(free_port()), "--redis-url", url)
    await demo.until("Ctrl-C")
    redis = connect_redis(url)
    await eventually(lambda: redis.xlen("quotes:AAPL"), "quotes are written")
    below = children(demo.process.pid)
    assert not any("redis-server" in command(pid) for pid in below)
    demo.process.terminate()
    await demo.rest()
    assert await redis.ping()


async def test_a_redis_that_is_not_there(start_demo: StartDemo) -> None:
    """It is said at once, and nothing is started."""
    port = free_port()
    demo = await start_demo("--port", str(free_port()), "--redis-url", f"redis://127.0.0.1:{port}")
    printed = await demo.rest()
    assert demo.process.returncode == 1
    assert f"Redis at 127.0.0.1:{port}: connection refused; start it" in printed
    assert printed.count("\n") == 1


async def test_the_printed_commands_work(start_demo: StartDemo) -> None:
    """They name the program by its path where `streamgate` is not on the PATH."""
    demo = await start_demo("--port", str(free_port()))
    printed = (await demo.until(r"^\s+(\S.* subscribe chat:lobby --url \S+)"))[1]
    assert printed.startswith(f"{sys.executable} -m service subscribe")
