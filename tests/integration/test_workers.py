"""Several workers are several whole nodes behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add_many, check
from tests.support.node import NodeProcess, StartNode
from tests.support.processes import free_port
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


async def _alone(node: NodeProcess) -> None:
    """No worker answers, and nothing holds the port."""
    for port in (node.admin_port, node.admin_port + 1):
        with pytest.raises(ConnectionRefusedError):
            await http.get(port, "/livez")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", node.port))


@pytest.mark.parametrize("turn", range(3))
async def test_a_worker_that_cannot_start_ends_them_all(redis_process: RedisProcess, turn: int) -> None:
    """It says why; the others are stopped, whatever they were at, and the exit status is 1."""
    with NodeProcess(redis_process.url, {"server": {"workers": 2}}) as node, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # where a connection of late has ended
        taken.bind(("127.0.0.1", node.admin_port + 1))
        taken.listen()
        node.spawn()
        assert await asyncio.to_thread(node.wait, 30) == 1
        assert (
            f"streamgate: cannot listen on 127.0.0.1:{node.admin_port + 1} "
            "(server.admin_port + 1, for worker 1: --admin-port): Address already in use" in node.log
        )
        assert "Traceback" not in node.log
        taken.close()
        await _alone(node)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_key_that_cannot_be_used_is_one_line(redis_process: RedisProcess, workers: int) -> None:
    """It is told before anything listens, once for all workers."""
    settings = {"server": {"workers": workers}, "tokens": {"hmac_secrets": ["short"]}}
    with NodeProcess(redis_process.url, settings) as node:
        node.spawn()
        assert await asyncio.to_thread(node.wait, 30) == 1
        log = node.log
    assert log.startswith("streamgate: tokens.hmac_secrets[0]: a secret of 5 bytes")
    assert log.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2, 3])
async def test_a_signal_during_start_up(
    redis_process: RedisProcess, number: signal.Signals, processes: int
) -> None:
    """It is not lost: with the tracker of resources, the first or the second worker just started, all end."""
    with NodeProcess(redis_process.url, {"server": {"workers": 2}}) as node:
        node.spawn()
        await eventually(lambda: len(node.children()) >= processes, "children are there", seconds=30)
        node.signal(number)
        assert await asyncio.to_thread(node.wait, 20) in {0, 128 + number, -number}
        assert "Traceback" not in node.log
        await _alone(node)


async def test_a_worker_that_dies_is_replaced(start_node: StartNode, redis_process: RedisProcess) -> None:
    """The others go on meanwhile."""
    node = await start_node(redis_process.url, {"server": {"workers": 2}})

    async def both_ready() -> bool:
        try:
            answers = [await http.get(node.admin_port + worker, "/readyz") for worker in range(2)]
        except OSError:
            return False
        return all(answer.status == 200 for answer in answers)

    await eventually(both_ready, "both workers are ready")
    os.kill(node.children()[-1], signal.SIGKILL)
    await eventually(lambda: "worker 1 ended with -9; starting another" in node.log, "it is told")
    await eventually(both_ready, "both workers are ready again", seconds=30)
    assert await node.stop() in {0, 128 + signal.SIGTERM, -signal.SIGTERM}


async def test_a_taken_port_is_named(redis_process: RedisProcess) -> None:
    """The one that is taken, with its option, and no other."""
    for option, workers in (("port", 1), ("port", 2), ("admin_port", 1)):
        port = free_port()
        settings = {"server": {option: port, "workers": workers}}
        with socket.create_server(("127.0.0.1", port)), NodeProcess(redis_process.url, settings) as node:
            node.spawn()
            assert await asyncio.to_thread(node.wait, 30) == 1
            log = node.log
        flag = "--" + option.replace("_", "-")
        assert log.startswith(f"streamgate: cannot listen on 127.0.0.1:{port} (server.")
        assert log.endswith(f"{flag}): Address already in use\n")
        assert log.count("\n") == 1
