"""A load program as a child process: it is told lines and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from loadtest.errors import BenchError

#: Seconds that a program has to end by itself before it is killed.
PATIENCE = 5.0


class Talker:
    """One of the C programs, running; ended when the `with` block is left.

    The programs end with their stdin, so that none outlives the benchmark, however that ends.

    Args:
        program: its path.
        options: become `--name value`, with dashes for underscores.
    """

    def __init__(self, program: Path, options: Mapping[str, int | str]) -> None:
        self.name = program.name
        words = [
            part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the program
        self._popen = subprocess.Popen(
            [program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends things in its order
        )
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self, event: str, within: float) -> dict[str, Any]:
        """Its next line, which must tell of this event.

        Raises:
            BenchError: it tells of another event, ends, or is silent for `within` seconds.
        """
        assert self._popen.stdout is not None
        stdout = self._popen.stdout.fileno()
        deadline = time.monotonic() + within
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise BenchError(f"{self.name}: no {event!r} within {within:.0f} s")
            chunk = os.read(stdout, 65536)
            if not chunk:
                raise self._ended()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        if said["event"] != event:
            raise BenchError(f"{self.name}: {said['event']!r} instead of {event!r}: {line.decode()}")
        return said

    def ask(self, line: str, event: str, within: float = 30.0) -> dict[str, Any]:
        """Tell a line and hear the answer."""
        self.tell(line)
        return self.hear(event, within)

    def end(self) -> None:
        """Ask it to end, then make it."""
        self._popen.terminate()
        try:
            self._popen.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.communicate()
        self._complaints.close()

    def _ended(self) -> BenchError:
        code = self._popen.wait(PATIENCE)
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        return BenchError(f"{self.name} ended with status {code}: {said or 'it said nothing'}")
