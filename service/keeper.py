"""A child process that ends with its parent, however the parent ends.

`Kept` starts this very file as a small watcher process, which starts the command. The watcher
holds one end of a pipe; when the parent closes the other end, or dies (SIGKILL included, the
kernel closes it then), the watcher ends the command and removes the scratch directory. It works
on every POSIX system, and whichever thread of the parent started it. The command runs in a session
of its own, so Ctrl-C in a terminal reaches the parent alone, which then ends things in its order.

Run as a file the watcher is isolated Python without site-packages: standard library only in here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Self


class Kept:
    """A running command, ended at the latest when this process ends.

    Args:
        command: program and arguments.
        grace: seconds between SIGTERM and SIGKILL.
        scratch: a directory that is removed when the command has ended; "" for none.
        output: where its stdout and stderr go; None: to this process's own stderr.
        env: its environment; None: this process's own.

    Raises:
        OSError: the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        grace: float = 5.0,
        scratch: str = "",
        output: IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._grace = grace
        self._scratch = scratch
        self._watcher = subprocess.Popen(  # noqa: S603 - the caller names the command, no shell parses it
            [sys.executable, "-I", "-S", __file__, str(grace), scratch, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
        assert self._watcher.stdout is not None
        answer = self._watcher.stdout.readline().decode().strip()
        if not answer.isdigit():
            self.stop()
            raise OSError(answer or f"{command[0]} cannot be started")
        self.pid = int(answer)

    @property
    def returncode(self) -> int | None:
        """The command's exit code (128 + n after signal n), None while it runs."""
        return self._watcher.poll()

    def stop(self) -> int:
        """SIGTERM, after the grace SIGKILL; waits for the end and returns the exit code. Idempotent."""
        for pipe in (self._watcher.stdin, self._watcher.stdout):
            if pipe is not None:
                pipe.close()
        try:
            return self._watcher.wait(self._grace + 5.0)
        except subprocess.TimeoutExpired:
            # Only a watcher that was stopped or is stuck gets here; its directory is left to us.
            self._watcher.kill()
            shutil.rmtree(self._scratch or os.devnull, ignore_errors=True)
            return self._watcher.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _watch(grace: float, scratch: str, command: Sequence[str]) -> int:
    """The watcher's life. Its first line of output is the command's pid, or why there is none."""
    try:
        child = subprocess.Popen(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr
        )
    except OSError as exc:
        os.write(1, f"{command[0]}: {exc.strerror}\n".encode())
        return 127

    def end_with_parent() -> None:
        os.read(0, 1)  # returns when the parent's end of the pipe is closed
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        os.write(1, f"{child.pid}\n".encode())
    except BrokenPipeError:
        pass  # the parent is gone already; the thread sees it too
    code = child.wait()
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # Not sys.exit: the thread may still wait for the parent, and nothing is left to flush.
    os._exit(_watch(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
