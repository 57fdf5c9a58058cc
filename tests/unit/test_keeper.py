"""keeper: a child process ends with its parent."""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from service.keeper import Kept
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]


def _alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_returncode_is_the_commands() -> None:
    """returncode is None while the command runs and its exit code afterwards."""
    with Kept(["sleep", "60"]) as kept:
        assert kept.returncode is None
        os.kill(kept.pid, signal.SIGKILL)
        assert kept.stop() == 128 + signal.SIGKILL
        assert kept.returncode == 128 + signal.SIGKILL


def test_stop_removes_the_scratch_directory(tmp_path: Path) -> None:
    """stop ends the command by SIGTERM and removes what the command left."""
    scratch = tempfile.mkdtemp(dir=tmp_path)
    kept = Kept(["sleep", "60"], scratch=scratch)
    assert kept.stop() == 128 + signal.SIGTERM
    assert not Path(scratch).exists()
    assert not _alive(kept.pid)


def test_a_command_that_ignores_sigterm_is_killed() -> None:
    """After the grace comes SIGKILL."""
    with tempfile.TemporaryFile() as output:
        kept = Kept(
            ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], grace=0.2, output=output
        )
        while not output.seek(0, os.SEEK_END):
            pass  # until the trap is set
        assert kept.stop() == 128 + signal.SIGKILL


def test_a_missing_command_is_an_error() -> None:
    """A command that cannot be started says so, and leaves no watcher."""
    with pytest.raises(OSError, match="/nonexistent/program: No such file"):
        Kept(["/nonexistent/program"])


async def test_the_command_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent ends the command and removes the directory."""
    scratch = tempfile.mkdtemp(dir=tmp_path)
    program = (
        "import sys, time; from service.keeper import Kept;"
        f"print(Kept(['sleep', '60'], scratch={scratch!r}).pid, flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        assert _alive(pid)
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not _alive(pid) and not Path(scratch).exists(), "the command and its directory")
