"""Fixtures of all suites: a real Redis for each worker, nodes as child processes, names of one's own."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess, StartRedis, redis_client

#: What a log never holds: an exception nobody expected.
_ALARM = re.compile(r"Traceback \(most recent call last\)|never retrieved|was destroyed but it is pending")


def assert_no_alarm(node: NodeProcess) -> None:
    """The node logged no exception since the last time."""
    log = node.unchecked_log()
    if alarm := _ALARM.search(log):
        around = log[max(0, alarm.start() - 500) : alarm.end() + 4000]
        pytest.fail(f"{node} logged an exception:\n{around}", pytrace=False)


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisProcess]:
    """The worker's Redis. Tests share it, so they use names of their own and never flush it."""
    with RedisProcess() as process:
        process.start()
        yield process


@pytest_asyncio.fixture
async def redis(redis_process: RedisProcess) -> AsyncIterator[Redis]:
    """A client of the worker's Redis."""
    async with redis_client(redis_process.url) as client:
        yield client


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Starts a Redis that only this test uses: to be flushed, killed, paused."""
    with ExitStack() as stack:

        def start(**options: Any) -> RedisProcess:
            process = stack.enter_context(RedisProcess(**options))
            process.start()
            return process

        yield start


@pytest_asyncio.fixture
async def connect_redis() -> AsyncIterator[Callable[[str], Redis]]:
    """Makes clients of any Redis, closed at the end."""
    async with AsyncExitStack() as stack:

        def connect(url: str) -> Redis:
            client = redis_client(url)
            stack.push_async_callback(client.aclose)
            return client

        yield connect


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shared_nodes(redis_process: RedisProcess) -> AsyncIterator[tuple[NodeProcess, NodeProcess]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(NodeProcess(redis_process.url)) for _ in range(2))
        first.spawn()  # both at once: most of a start is imports
        await second.start()
        await first.wait_ready()
        yield first, second
        for node in (first, second):
            await node.stop()


@pytest.fixture
def nodes(_shared_nodes: tuple[NodeProcess, NodeProcess]) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes on the worker's Redis, shared by tests that need no settings of their own."""
    yield _shared_nodes
    for node in _shared_nodes:
        assert node.returncode is None, f"{node} ended:\n{node.log}"
        assert_no_alarm(node)


@pytest.fixture
def node(nodes: tuple[NodeProcess, NodeProcess]) -> NodeProcess:
    """One of the shared nodes."""
    return nodes[0]


@pytest_asyncio.fixture
async def start_node() -> AsyncIterator[StartNode]:
    """Starts nodes with settings of their own. At the end each log is searched for exceptions."""
    with ExitStack() as stack:
        started: list[NodeProcess] = []

        async def start(redis_url: str, settings: Mapping[str, Any] | None = None) -> NodeProcess:
            process = stack.enter_context(NodeProcess(redis_url, settings))
            started.append(process)
            await process.start()
            return process

        yield start
        for process in started:
            assert_no_alarm(process)


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes channel names that no other test uses: `name("log")` is `log:3f2a…-1`."""
    numbers = itertools.count(1)
    test = uuid.uuid4().hex[:12]
    return lambda namespace: f"{namespace}:{test}-{next(numbers)}"


def pytest_configure(config: pytest.Config) -> None:
    """Markers of this file's hooks."""
    config.addinivalue_line("markers", "seeds(few): seeds by default; `make chaos` runs all of them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound coroutine tests from within.

    pytest-timeout raises wherever the signal finds the event loop; inside a callback asyncio logs that and
    goes on, and the test hangs for ever. This bound comes a little earlier and tells what was waited for.
    """
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("timeout")
            seconds = marker.args[0] if marker else float(item.config.getini("timeout"))
            item.obj = _bounded(item.obj, seconds * 0.9)


def _bounded(test: Callable[..., Coroutine[Any, Any, None]], seconds: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(*args, **kwargs)

    return bounded


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`seed`: all 20 of them under STREAMGATE_TEST_SEEDS=all (`make chaos`), else the first few."""
    if "seed" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("seeds")
        few = marker.args[0] if marker else 2
        everything = os.environ.get("STREAMGATE_TEST_SEEDS") == "all"
        metafunc.parametrize("seed", range(20 if everything else few))


@pytest.fixture
def entry_count() -> int:
    """Entries of a chaos run: 50,000 under STREAMGATE_TEST_SEEDS=all, else 5,000."""
    return 50_000 if os.environ.get("STREAMGATE_TEST_SEEDS") == "all" else 5_000
