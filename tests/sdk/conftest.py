"""The JavaScript SDK, installed once beside its driver."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.sdk.javascript import Sdk
from tests.support.processes import absent

_JS = Path(__file__).parent / "js"


@pytest.fixture(scope="session")
def js_driver() -> list[str]:
    """The command of driver.mjs, with the packages of package-lock.json beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        absent("Node.js with npm", "install Node.js 18 or newer")
    installed = _JS / "node_modules" / ".package-lock.json"
    with (_JS / "package-lock.json").open() as lock:  # workers of pytest-xdist install one after the other
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max((_JS / name).stat().st_mtime for name in ("package.json", "package-lock.json"))
        if not installed.exists() or installed.stat().st_mtime < newest:
            done = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=_JS,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                absent("the JavaScript SDK", f"npm ci: {done.stderr.strip().splitlines()[-1:]}")
    return [node, str(_JS / "driver.mjs")]


@pytest_asyncio.fixture
async def sdk(js_driver: list[str]) -> AsyncIterator[Sdk]:
    process = await asyncio.create_subprocess_exec(
        *js_driver, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Sdk(process)
    finally:
        process.kill()
        await process.communicate()  # also closes the pipes
