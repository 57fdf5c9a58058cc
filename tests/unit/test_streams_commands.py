"""streams.commands: one connection, made anew when it is lost; nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.commands import Commands
from tests.support.processes import free_port
from tests.unit.fakes.clock import turns

Name = Callable[[str], str]


async def test_execute_and_pipeline(commands: Commands, name: Name) -> None:
    """One reply, or one for each; errors are raised, or in the list."""
    key = name("log")
    assert await commands.execute("INCR", key) == 1
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await commands.execute("XLEN", key)
    replies = await commands.pipeline([("INCR", key), ("XLEN", key)])
    assert replies[0] == 2
    assert isinstance(replies[1], CommandFailed)


async def test_transaction(commands: Commands, name: Name) -> None:
    """All or nothing: an error of one is in the list, a transaction that was refused is raised."""
    key = name("log")
    replies = await commands.transaction([("INCR", key), ("XLEN", key), ("GET", key)])
    assert replies[0] == 1
    assert isinstance(replies[1], CommandFailed)
    assert replies[2] == b"1"
    with pytest.raises(CommandFailed, match="EXECABORT"):
        await commands.transaction([("INCR", key), ("NOSUCH",)])
    assert await commands.execute("GET", key) == b"1"


async def test_a_lost_connection_is_made_anew(commands: Commands, redis: Redis) -> None:
    """Calls in between fail at once; afterwards they work again."""
    lost = await commands.execute("CLIENT", "ID")
    await redis.client_kill_filter(_id=lost)
    while commands.connected:
        try:
            await commands.execute("PING")
        except Unavailable:
            break
    await asyncio.wait_for(commands.wait_connected(), 10)
    assert await commands.execute("CLIENT", "ID") != lost


async def test_without_redis_calls_fail_at_once() -> None:
    """Nothing waits for a connection that may never come."""
    metrics = Metrics()
    settings = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}"))
    commands = Commands(settings, metrics)
    running = asyncio.create_task(commands.run())
    for _ in range(3):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(commands.execute("PING"), 1)
    assert not commands.connected
    assert metrics.registry.get_sample_value("streamgate_redis_errors_total", {"kind": "unavailable"}) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await turns()


async def test_redis_clock_is_known(commands: Commands) -> None:
    """On one machine it is ours."""
    assert abs(commands.clock_offset) < 1
