"""Child processes of tests: free ports, logs, and no survivors."""

from __future__ import annotations

import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Self

import pytest

# Below the range that the kernel takes outgoing ports from, so that no client connection of another
# test sits on a port between its choice and its use.
_FIRST_PORT, _LAST_PORT = 12_000, 32_000
_WORKER_PORTS = 2_000


@functools.cache
def _candidates() -> Iterator[int]:
    """All ports of this worker in random order, again and again: one is given out twice as late as can be."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ranges = (_LAST_PORT - _FIRST_PORT) // _WORKER_PORTS
    first = _FIRST_PORT + worker % ranges * _WORKER_PORTS
    return itertools.cycle(random.sample(range(first, first + _WORKER_PORTS), _WORKER_PORTS))


def free_port() -> int:
    """A free loopback port; workers of one pytest-xdist run choose from ranges of their own."""
    for port in itertools.islice(_candidates(), _WORKER_PORTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def absent(what: str, hint: str) -> NoReturn:
    """Skip a test that needs `what`, loudly; in CI fail it, where everything must be installed."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it: {hint}")
    pytest.skip(f"{what} is not on this machine, so this is NOT TESTED here: {hint}")


def _dying_with_parent(command: list[str]) -> list[str]:
    """The command, killed by the kernel when the test run is; as it is where util-linux is not."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


class ChildProcess:
    """A process, its output in a file, and the signals tests send it.

    Args:
        command: program and arguments.
        directory: private to the process; removed by `close`.
    """

    def __init__(self, command: list[str], directory: tempfile.TemporaryDirectory[str]) -> None:
        self.command = command
        self._directory = directory
        self._log_path = Path(directory.name) / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ)
        self.cwd: Path | None = None

    @property
    def log(self) -> str:
        """Everything it wrote to stdout and stderr so far, over all its lives."""
        if not self._log_path.exists():
            return ""
        return self._log_path.read_text(encoding="utf-8", errors="backslashreplace")

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start it, without waiting for it to be of use."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                _dying_with_parent(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.cwd,
            )

    def children(self) -> list[int]:
        """Process ids of its children; none where the kernel does not tell."""
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing if it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: it keeps its sockets and does nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on where it was."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Wait for its end and return the exit status; AssertionError with its output if it stays."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end in {seconds} s:\n{self.log}") from None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill what still runs and remove its directory."""
        self.kill()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"<{type(self).__name__} {pid} {' '.join(self.command[:4])}>"
