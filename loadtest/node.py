"""The node under test: started with a configuration of our own, watched through its admin port."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from loadtest.errors import BenchError
from service.config import merge
from service.keeper import Kept
from service.streams.embedded import free_port
from tests.support.toml import toml

#: Seconds for a node to be ready.
START_TIMEOUT = 30.0

#: Starts this checkout's node. Another command line may stand here, to compare with another checkout.
DEFAULT_COMMAND = (sys.executable, "-m", "service", "serve", "--config", "{config}")

#: Namespaces of every node under test: plain, and with a coalescing interval.
NAMESPACES: dict[str, dict[str, Any]] = {
    "namespaces.bench": {"mode": "log"},
    "namespaces.gather": {"mode": "log", "coalesce_ms": 50},
}


class Node:
    """A running node, ready for clients; ended when the `with` block is left.

    Args:
        command: its command line; `{config}` stands for the path of its configuration.
        redis_url: the Redis it reads from.
        settings: what is not the default, by section: "limits", "namespaces.bench", ….

    Raises:
        BenchError: it does not get ready; the text holds its last words.
    """

    def __init__(
        self,
        command: Sequence[str],
        redis_url: str,
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.port, self.admin_port = free_port(), free_port()
        scratch = Path(tempfile.mkdtemp(prefix="streamgate-bench-"))
        config = scratch / "node.toml"
        sections: dict[str, Mapping[str, Any]] = {
            "server": {"host": "127.0.0.1", "port": self.port, "admin_port": self.admin_port},
            "redis": {"url": redis_url},
            "limits": {"connects_per_second": 0},  # crowds connect as fast as they can
            **NAMESPACES,
        }
        config.write_text(toml(merge(sections, settings)))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the node
        words = [word.replace("{config}", str(config)) for word in command]
        # Settings in the environment would silently change what is measured.
        env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMGATE_")}
        try:
            self._kept = Kept(words, scratch=str(scratch), output=self._log, env=env)
        except OSError as exc:
            shutil.rmtree(scratch)
            raise BenchError(f"the node cannot be started: {exc}") from None
        try:
            self._wait_until_ready()
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._kept.pid

    def end(self) -> None:
        """End it as its operator would."""
        self._kept.stop()

    def last_words(self) -> str:
        """The last lines that it wrote."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-5:]) or "it wrote nothing"

    def metric(self, name: str) -> float | None:
        """A value at /metrics, summed over its labels; None where there is none."""
        status, text = self._get("/metrics")
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found)) if status == 200 and found else None

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if self._kept.returncode is not None:
                raise BenchError(f"the node ended with status {self._kept.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"the node is not ready after {START_TIMEOUT:.0f} s: {self.last_words()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return self._get("/readyz")[0] == 200
        except OSError:
            return False
