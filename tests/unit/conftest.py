"""Fixtures of the unit tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.server import Server, serve

from service.client import client as client_module
from service.hub import outbox as outbox_module
from service.session import session as session_module
from service.session import wheel as wheel_module
from service.streams.commands import Commands
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.clock import LoopTime
from tests.unit.fakes.redis import connected_commands
from tests.unit.fakes.stage import Stage


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings in the environment."""
    for name in list(os.environ):
        if name.startswith("STREAMGATE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions, their deadlines and their outboxes go by the clock of the running loop."""
    for module in (session_module, wheel_module, outbox_module):
        monkeypatch.setattr(module, "time", LoopTime)


@pytest_asyncio.fixture
async def commands(redis_process: RedisProcess) -> AsyncIterator[Commands]:
    """A connection to the worker's Redis."""
    async with connected_commands(redis_process.url) as commands:
        yield commands


@pytest_asyncio.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A server that plays scenes; the clients' reconnects come at once."""
    monkeypatch.setattr(client_module, "MIN_DELAY_SECONDS", 0.001)
    stage = Stage()
    server: Server
    async with serve(stage, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        stage.url = f"ws://127.0.0.1:{port}"
        yield stage
    assert stage.failures == []
