"""A whole demo as a child process, and a headless browser."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest_asyncio
from playwright.async_api import Browser, Page, Request, async_playwright
from redis.asyncio import Redis

from tests.support.processes import absent, free_port
from tests.support.redis_process import RedisProcess, redis_client

_ROOT = Path(__file__).parents[2]

#: Seconds that a demo may take until it prints its URL, on a loaded machine.
_START = 30.0

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Demo:
    """A running `streamgate demo` and what it printed."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.printed = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Read its output up to a line that matches; AssertionError with the output if it ends before."""
        assert self.process.stdout is not None
        async with asyncio.timeout(_START):
            while raw := await self.process.stdout.readline():
                self.printed += raw.decode()
                if found := re.search(pattern, raw.decode()):
                    return found
        raise AssertionError(f"no {pattern!r} in the demo's output:\n{self.printed}")

    async def rest(self) -> str:
        """What it prints from here to its end."""
        out, _ = await asyncio.wait_for(self.process.communicate(), _START)
        self.printed += out.decode()
        return self.printed


StartDemo = Callable[..., Awaitable[Demo]]


@pytest_asyncio.fixture(loop_scope="session")
async def redis(redis_process: RedisProcess) -> AsyncIterator[Redis]:
    """As elsewhere, in the event loop of these tests."""
    async with redis_client(redis_process.url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def connect_redis() -> AsyncIterator[Callable[[str], Redis]]:
    """As elsewhere, in the event loop of these tests."""
    async with AsyncExitStack() as stack:

        def connect(url: str) -> Redis:
            client = redis_client(url)
            stack.push_async_callback(client.aclose)
            return client

        yield connect


@pytest_asyncio.fixture(loop_scope="session")
async def start_demo() -> AsyncIterator[StartDemo]:
    """Starts demos on free ports; they are killed at the end, and take their children with them."""
    started: list[Process] = []

    async def start(*options: str) -> Demo:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMGATE_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "service", "demo"),
            *(options or ("--port", str(free_port()))),
            cwd=_ROOT,
            stdout=PIPE,
            stderr=STDOUT,
            env=environment | {"COLUMNS": "200"},
        )
        started.append(process)
        return Demo(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium, one for a worker; without it tests are skipped loudly, or in CI fail."""
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        absent("Chromium", "apt-get install chromium, or any of " + ", ".join(_CHROMIUM))
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


OpenPage = Callable[[str], Awaitable[Page]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens pages. At the end: no script error, no refused resource, nothing from elsewhere was asked for."""
    problems: list[str] = []
    # A connection that does not come about, a name that is none: part of some tests, and reported each time.
    expected = re.compile(r"WebSocket connection to .* failed|responded with a status of 400")

    pages: list[Page] = []

    async def open_page(url: str) -> Page:
        page = await browser.new_page()  # with a storage of its own
        pages.append(page)
        page.set_default_timeout(20_000)

        def on_request(request: Request) -> None:
            if urlsplit(request.url).netloc != urlsplit(url).netloc:
                problems.append(f"request to {request.url}")

        page.on("request", on_request)
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on(
            "console",
            lambda message: (
                problems.append(f"console: {message.text}")
                if message.type == "error" and not expected.search(message.text)
                else None
            ),
        )
        await page.goto(url)
        return page

    yield open_page
    for page in pages:
        await page.close()
    assert problems == []
