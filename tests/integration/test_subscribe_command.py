"""`streamgate subscribe` against a real node."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.tokens import TOKENS, token
from tests.support.waiting import DEADLINE, eventually

_ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def subscribe(*arguments: str) -> AsyncIterator[Process]:
    """The command, killed at the end if it still runs."""
    command = [sys.executable, "-u", "-m", "service", "subscribe", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(stream: asyncio.StreamReader | None) -> str:
    """The next line, without its end."""
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), DEADLINE)).decode().removesuffix("\n")


async def feed(redis: Redis, channel: str, payload: str) -> None:
    """One entry, as a producer writes it."""
    await redis.xadd(channel, {"data": payload})


async def test_lines(node: NodeProcess, redis: Redis, name: Callable[[str], str]) -> None:
    """Each publication is a line: channel, tab, JSON; `--count` ends the command."""
    quotes = name("quotes")
    await feed(redis, quotes, '{ "price": 1.50 }')  # the snapshot
    async with subscribe(quotes, "--url", node.url, "--count", "2") as process:
        assert await line(process.stdout) == quotes + '\t{"price":1.5}'
        await feed(redis, quotes, '{"price":2}')
        assert await line(process.stdout) == quotes + '\t{"price":2}'
        assert await asyncio.wait_for(process.wait(), DEADLINE) == 0


async def test_whole_publications(node: NodeProcess, redis: Redis, name: Callable[[str], str]) -> None:
    """--json prints all there is to a publication."""
    quotes = name("quotes")
    await feed(redis, quotes, "1")
    async with subscribe(quotes, "--url", node.url, "--json", "-n", "1") as process:
        publication = json.loads(await line(process.stdout))
    assert publication["channel"] == quotes
    assert publication["data"] == 1
    assert publication["tags"] == {"snapshot": "true"}
    assert publication["offset"] > 0


async def test_it_goes_on_after_a_cut(node: NodeProcess, redis: Redis, name: Callable[[str], str]) -> None:
    """What is published while the connection is down arrives after it, once; stderr tells of the cut."""
    log = name("log")
    async with Proxy(node.port) as proxy, subscribe(log, "--url", node.url_at(proxy.port)) as process:
        # A first line proves the subscription; without a snapshot there is nothing else to wait for.
        count = 0
        first: asyncio.Task[str] = asyncio.create_task(line(process.stdout))
        while not first.done():
            count += 1
            await feed(redis, log, str(count))
            await asyncio.wait([first], timeout=0.05)
        seen = [int(first.result().split("\t")[1])]
        proxy.close_door()
        assert "connection lost" in await line(process.stderr)
        for _ in range(100):
            count += 1
            await feed(redis, log, str(count))
        proxy.open_door()
        while seen[-1] < count:
            seen.append(int((await line(process.stdout)).split("\t")[1]))
        while (said := await line(process.stderr)) != "streamgate: connected again":
            assert "connection lost" in said
    assert seen == list(range(seen[0], count + 1))


async def test_a_gap_is_told(node: NodeProcess, redis: Redis, name: Callable[[str], str]) -> None:
    """A recovery that is not complete is said on stderr."""
    log, other = name("log"), name("quotes")
    await feed(redis, other, "0")
    async with Proxy(node.port) as proxy, subscribe(log, other, "--url", node.url_at(proxy.port)) as process:
        # Commands of one frame are answered in order: the snapshot comes after the subscription to log.
        assert (await line(process.stdout)).startswith(other)
        await feed(redis, log, "1")
        assert await line(process.stdout) == f"{log}\t1"
        proxy.close_door()
        assert "connection lost" in await line(process.stderr)
        await redis.delete(log)
        await feed(redis, log, "2")
        proxy.open_door()
        while "recovered: false" not in (said := await line(process.stderr)):
            pass
        assert said == f"streamgate: {log}: recovered: false, publications were missed"


async def test_refusals(node: NodeProcess, name: Callable[[str], str]) -> None:
    """A channel that the node refuses is one line, and exit code 1."""
    for channel, problem in ((name("closed"), "permission denied"), (name("nothing"), "unknown channel")):
        async with subscribe(channel, "--url", node.url) as process:
            said = await line(process.stderr)
            assert said.startswith(f"streamgate: {channel}: {problem} (error ")
            assert await process.wait() == 1


async def test_a_token(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Callable[[str], str]
) -> None:
    """With --token it is somebody: channels for users are open."""
    namespaces = {"room": {"mode": "log", "snapshot": True, "subscribe": "authenticated"}}
    node = await start_node(redis_process.url, {"tokens": TOKENS, "namespaces": namespaces})
    room = name("room")
    await feed(redis, room, "1")
    async with subscribe(room, "--url", node.url) as process:
        said = await line(process.stderr)
        assert said == f"streamgate: {room}: permission denied: sign in first (error 103)"
    async with subscribe(room, "--url", node.url, "--token", token("ann"), "-n", "1") as process:
        assert await line(process.stdout) == room + "\t1"


async def test_urls_that_lead_nowhere(node: NodeProcess) -> None:
    """A wrong path and TLS where there is none are told by what to change."""
    for url, said in (
        (f"ws://127.0.0.1:{node.port}/ws", "the server answered HTTP 404; the path is /connection/websocket"),
        (node.url.replace("ws:", "wss:"), "no TLS connection; without TLS the URL begins with ws://"),
        (node.url.replace("ws:", "http:"), "no WebSocket URL: scheme isn't ws or wss"),
    ):
        async with subscribe("quotes:A", "--url", url) as process:
            assert await line(process.stderr) == f"streamgate: {url}: {said}"
            assert await process.wait() == 1


async def test_a_node_without_redis(start_node: StartNode, start_redis: StartRedis) -> None:
    """It is said once, and once more when it is over."""
    redis_process = start_redis()
    node = await start_node(redis_process.url)
    redis_process.kill()

    async def away() -> bool:
        return not await node.ready()

    await eventually(away, "the node has no Redis")
    async with subscribe("log:x", "--url", node.url) as process:
        said = await line(process.stderr)
        assert said == "streamgate: log:x: the node has no Redis now (error 100); trying again"
        redis_process.start()
        assert await line(process.stderr) == "streamgate: log:x: subscribed"
    assert "connected to Redis again; " in node.log


async def test_ctrl_c_and_closed_pipes_are_clean(
    node: NodeProcess, redis: Redis, name: Callable[[str], str]
) -> None:
    """Ctrl-C ends with 130; a reader that has enough ends it with 0; neither says a word."""
    quotes = name("quotes")
    await feed(redis, quotes, "1")
    async with subscribe(quotes, "--url", node.url) as process:
        await line(process.stdout)
        os.kill(process.pid, signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE) == 130
        assert process.stderr is not None
        assert await process.stderr.read() == b""
    ours = f"{sys.executable} -u -m service subscribe {quotes} --url {node.url}"
    head = f"{ours} | head -n 1; echo ${{PIPESTATUS[0]}}"
    shell = await asyncio.create_subprocess_exec("bash", "-c", head, cwd=_ROOT, stdout=PIPE, stderr=PIPE)
    assert await line(shell.stdout) == f"{quotes}\t1"
    await feed(redis, quotes, "2")  # the write that finds nobody
    assert await line(shell.stdout) == "0"
    assert await asyncio.wait_for(shell.communicate(), DEADLINE) == (b"", b"")
