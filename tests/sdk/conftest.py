"""The JavaScript SDK, installed once beside its driver; a node where who a client is matters."""

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
from tests.support import api
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.processes import absent
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS
from tests.support.ws_client import Json

_JS = Path(__file__).parent / "js"

_IDENTITY: Json = {
    # What is over ends a little later, as nodes are shipped: SDKs ask for a new token when it is over.
    "tokens": TOKENS | {"leeway_seconds": 2},
    "api": api.API,
    "presence": {"batch_ms": 10},
    "namespaces": {
        "log": {"mode": "log", "history_size": 0},
        "token": {"mode": "log", "history_size": 0, "subscribe": "token"},
        "open": {"mode": "log", "presence": "anonymous", "join_leave": True},
        "room": {"mode": "log", "publish": "authenticated", "presence": "authenticated", "chat": True},
        "inbox": {"mode": "log", "personal": True, "subscribe": "authenticated", "auto_subscribe": True},
    },
}


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


@pytest_asyncio.fixture(params=["json", "protobuf"])
async def sdk(js_driver: list[str], request: pytest.FixtureRequest) -> AsyncIterator[Sdk]:
    process = await asyncio.create_subprocess_exec(
        *js_driver, request.param, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Sdk(process)
    finally:
        process.kill()
        await process.communicate()  # also closes the pipes


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def protobuf(request: pytest.FixtureRequest) -> bool:
    """Which format the Python SDK speaks."""
    return bool(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(redis_process: RedisProcess) -> AsyncIterator[NodeProcess]:
    """A node where who a client is matters."""
    async with running(redis_process.url, _IDENTITY) as (node,):
        yield node
