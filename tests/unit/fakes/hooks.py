"""Hooks that ask a server which answers as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.errors import ReplyError
from service.identity.hooks import Hooks
from service.identity.identity import Identity
from service.metrics import Metrics
from service.sections import HookSettings
from tests.unit.fakes.clock import Clock
from tests.unit.fakes.http_server import HttpServer, Reply, http_server, json

#: Of the client that asks in most tests.
ANN = Identity("ann", meta=b'{"plan":"free"}')

EMPTY = json({"result": {}})


class HooksWorld:
    """Hooks that ask a server, their metrics and their clock."""

    def __init__(self, server: HttpServer, **settings: Any) -> None:
        base = f"http://127.0.0.1:{server.port}"
        urls = {f"{name}_url": f"{base}/{name}" for name in ("connect", "subscribe", "publish")}
        self.server = server
        self.metrics = Metrics()
        self.clock = Clock()
        # Long enough for a loaded machine: only tests of the timeout run into it.
        defaults = {"timeout_seconds": 10, "retries": 0}
        self.hooks = Hooks(HookSettings(**(urls | defaults | settings)), self.metrics, self.clock)

    async def publish(self, data: bytes = b"1") -> bytes:
        return await self.hooks.publish("c", ANN, "chat:lobby", data)

    async def fails(self) -> ReplyError:
        """A question that finds no usable answer."""
        with pytest.raises(ReplyError) as info:
            await self.publish()
        assert (info.value.code, info.value.temporary) == (100, True)
        assert info.value.message == "internal server error"
        return info.value

    def failures(self, reason: str, hook: str = "publish") -> float:
        labels = {"hook": hook, "reason": reason}
        return self.metrics.registry.get_sample_value("streamgate_hook_failures_total", labels) or 0


@asynccontextmanager
async def hooks_world(*replies: Reply, **settings: Any) -> AsyncIterator[HooksWorld]:
    async with http_server(*replies) as server:
        world = HooksWorld(server, **settings)
        try:
            yield world
        finally:
            await world.hooks.aclose()
