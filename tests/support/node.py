"""A node as a child process: the same command that a user runs."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from service.config import merge
from tests.support import http
from tests.support.processes import ChildProcess, free_port
from tests.support.toml import toml
from tests.support.waiting import eventually

StartNode = Callable[..., Awaitable["NodeProcess"]]

_ROOT = Path(__file__).parents[2]

#: Seconds a node may take until it is ready.
_START = 30.0

#: Namespaces of test nodes. `log` and `latest` are the bare modes; the shipped ones are beside them.
NAMESPACES: dict[str, dict[str, Any]] = {
    "log": {"mode": "log", "history_size": 0},
    "latest": {"mode": "latest", "history_size": 0},
    "quotes": {"mode": "latest", "snapshot": True, "history_size": 1000},
    "scores": {"mode": "log", "snapshot": True, "history_size": 0},
    "chat": {
        "mode": "log",
        "history_size": 10_000,
        "history_ttl": 604_800,
        "publish": "anonymous",
        "presence": "anonymous",
    },
    "flat": {"mode": "log", "history_size": 0, "numeric_fields": ["price", "size"]},
    "closed": {"mode": "log", "subscribe": "nobody", "publish": "nobody", "history": "nobody"},
}


class NodeProcess(ChildProcess):
    """One node on ports of its own, which it keeps over restarts.

    Args:
        redis_url: where its Redis is.
        settings: over the tests' defaults, nested like the configuration file.
    """

    def __init__(self, redis_url: str, settings: Mapping[str, Any] | None = None) -> None:
        directory = tempfile.TemporaryDirectory(prefix="streamgate-node-", ignore_cleanup_errors=True)
        self.port, self.admin_port = free_port(), free_port()
        defaults: dict[str, Any] = {
            "server": {
                "port": self.port,
                "admin_port": self.admin_port,
                "settle_seconds": 0,
                "drain_seconds": 0,
            },
            # Sweeps are as good as off: what arrives in a test arrives by hints alone.
            "redis": {"url": redis_url, "sweep_seconds": 600, "trim_seconds": 0},
            # One machine plays all clients; tests of these limits set their own.
            "limits": {"commands_per_second": 1e6, "commands_burst": 1_000_000},
            "namespaces": NAMESPACES,
        }
        config = Path(directory.name) / "streamgate.toml"
        config.write_text(toml(merge(defaults, settings or {})))
        super().__init__([sys.executable, "-m", "service", "serve", "--config", str(config)], directory)
        self.cwd = _ROOT
        # A setting of the test run is not a setting of the node.
        self.environment = {key: value for key, value in os.environ.items() if "STREAMGATE_" not in key}
        self.environment["PYTHONUNBUFFERED"] = "1"
        self._checked = 0

    @property
    def url(self) -> str:
        """Where clients connect to it."""
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        """Its WebSocket URL through a proxy that listens on `port`."""
        return f"ws://127.0.0.1:{port}/connection/websocket"

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.spawn()
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Wait until it is ready; AssertionError with its output if it ends instead."""
        await eventually(self._ready, f"{self} is ready", seconds=_START)

    async def restart(self) -> None:
        """SIGKILL and start again on the same ports."""
        self.kill()
        await self.start()

    async def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, wait for the end, and return the exit status."""
        self.terminate()
        return await asyncio.to_thread(self.wait, seconds)

    async def ready(self) -> bool:
        """Whether `/readyz` says so now; False where nobody answers."""
        try:
            return (await http.get(self.admin_port, "/readyz")).status == 200
        except (OSError, ValueError, IndexError):
            return False

    async def _ready(self) -> bool:
        if self.returncode is not None:
            raise AssertionError(f"{self} ended with status {self.returncode}:\n{self.log}")
        return await self.ready()

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by name, summed over its labels."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families((await http.get(self.admin_port, "/metrics")).body):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of one metric that carry these labels; 0 where there is none yet."""
        total = 0.0
        for family in text_string_to_metric_families((await http.get(self.admin_port, "/metrics")).body):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def unchecked_log(self) -> str:
        """What it wrote since the last call."""
        log = self.log
        new, self._checked = log[self._checked :], len(log)
        return new
