"""Several workers are several whole nodes behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add_many, check
from tests.support.node import StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]

#: Enough that the kernel hardly gives all of them to one worker.
_CLIENTS = 24


async def test_each_worker_serves_and_has_probes_and_metrics_of_its_own(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url, {"server": {"workers": 2}})
    channel = name("log")

    async def both_ready() -> bool:
        try:
            answers = [await http.get(node.admin_port + worker, "/readyz") for worker in range(2)]
        except OSError:
            return False
        return all(answer.status == 200 for answer in answers)

    await eventually(both_ready, "both workers are ready")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(node.url)) for _ in range(_CLIENTS)]
        for client in clients:
            await client.subscribe(channel)
        written = await add_many(redis, channel, range(50))
        for client in clients:
            check(await client.publications(channel, len(written)), written)
        counts = []
        for worker in range(2):
            body = (await http.get(node.admin_port + worker, "/metrics")).body
            [line] = [line for line in body.splitlines() if line.startswith("streamgate_subscriptions ")]
            counts.append(float(line.split()[1]))
        assert sum(counts) == _CLIENTS
        assert all(counts), "one worker has all the connections"
        node.terminate()
        for client in clients:
            assert (await client.closed())[0] == 3001
    status = await asyncio.to_thread(node.wait, 20)
    assert status in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
    for worker in range(2):
        try:
            await http.get(node.admin_port + worker, "/livez")
        except OSError:
            continue
        raise AssertionError(f"worker {worker} outlived its parent")


async def test_workers_end_with_their_parent(start_node: StartNode, redis_process: RedisProcess) -> None:
    """Killed without a word, it leaves no node that nobody can reach with a signal."""
    node = await start_node(redis_process.url, {"server": {"workers": 2}})
    workers = node.children()
    try:
        node.kill()

        async def gone() -> bool:
            for worker in range(2):
                try:
                    await http.get(node.admin_port + worker, "/livez")
                except OSError:
                    continue
                return False
            return True

        await eventually(gone, "no worker answers")
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
