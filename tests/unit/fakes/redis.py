"""Commands on a real Redis, as a node sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.commands import Commands
from tests.unit.fakes.clock import turns


@asynccontextmanager
async def connected_commands(url: str) -> AsyncIterator[Commands]:
    """A connection of its own to this Redis."""
    commands = Commands(RedisSettings(url=SecretStr(url)), Metrics())
    running = asyncio.create_task(commands.run())
    try:
        await asyncio.wait_for(commands.wait_connected(), 10)
        yield commands
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await turns()
    assert not commands.connected
