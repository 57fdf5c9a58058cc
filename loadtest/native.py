"""Builds the C programs of the load side."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import BenchError

HERE = Path(__file__).parent
BUILD = HERE / "build"

FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Programs:
    """Paths of the built programs; what each does is told at the top of its source."""

    crowd: Path
    bare_send: Path
    feed: Path


def build() -> Programs:
    """Compile what changed since the last run.

    Raises:
        BenchError: there is no C compiler, or it refuses the source.
    """
    BUILD.mkdir(exist_ok=True)
    return Programs(crowd=_build("crowd"), bare_send=_build("bare_send"), feed=_build("feed"))


def _build(name: str) -> Path:
    source, program = HERE / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise BenchError(
            f"no C compiler: {compiler[0]!r} is not on PATH; install gcc or clang, or set CC "
            "(Debian: apt install gcc libc6-dev)"
        )
    fresh = program.with_suffix(".new")
    result = subprocess.run(
        [*compiler, *FLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise BenchError(f"{source.name} does not compile:\n{result.stderr.strip()}")
    fresh.replace(program)
    return program
