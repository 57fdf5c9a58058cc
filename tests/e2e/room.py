"""The page's room, and people in it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from playwright.async_api import Locator, Page, expect
from redis.asyncio import Redis

from service.tools.demo import SETTINGS
from tests.support.node import NodeProcess

#: Of the server API.
KEY = "a key of the server API"

OpenPage = Callable[[str], Awaitable[Page]]


async def state(page: Page, name: str) -> None:
    """Wait until the page shows that connection state."""
    await expect(page.locator("#state")).to_have_attribute("data-state", name, timeout=20_000)


def page_settings() -> dict[str, Any]:
    """Those of a node that serves the page, with the demo's chat."""
    return {
        "server": {"demo_page": True},
        "tokens": {"hmac_secrets": ["a secret of the tests, long enough"]},
        "api": {"keys": [KEY]},
        "presence": {"batch_ms": 5},
        "namespaces": {"chat": tomllib.loads(SETTINGS.read_text())["namespaces"]["chat"]},
    }


class Room:
    """The room on a node, as producers and the application reach it."""

    def __init__(self, node: NodeProcess, redis: Redis, channel: str) -> None:
        self.node = node
        self._redis = redis
        self.channel = channel

    def url(self, port: int = 0) -> str:
        """The page's address, there or through a proxy on a port."""
        return f"http://127.0.0.1:{port or self.node.port}/?room={self.channel.partition(':')[2]}"

    async def say(self, text: str, user: str = "producer") -> str:
        """A message, as a producer writes it; returns its id."""
        data = json.dumps({"user": user, "text": text})
        added = await self._redis.xadd(self.channel, {"data": data})
        assert isinstance(added, bytes)
        return added.decode()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A chat command of the application's; its result."""
        url = f"http://127.0.0.1:{self.node.admin_port}/api/chat.{method}"
        body = {"channel": self.channel, **params}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(url, json=body, headers={"X-API-Key": KEY})
        result: dict[str, Any] = response.json()["result"]
        return result


class Person:
    """Somebody at the page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.messages = page.locator("#messages .message")
        self.texts = page.locator("#messages .text")
        self.hint = page.locator("#chat-error")
        self.typing = page.locator("#typing")
        self.present = page.locator("#present")
        self.menu = page.locator("#menu")

    async def sign_in(self, name: str, *, moderator: bool = False) -> None:
        """By the form."""
        await self.page.fill("#name", name)
        await self.page.set_checked("#moderator", moderator)
        await self.page.press("#name", "Enter")
        await expect(self.page.locator("#me")).to_have_text(name)
        await self.here()

    async def here(self) -> None:
        """Wait until the page has the room."""
        await state(self.page, "connected")
        await expect(self.present).not_to_be_empty()

    async def say(self, text: str) -> None:
        """Write and send; whether it is taken shows later."""
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    def message(self, text: str) -> Locator:
        """The message with this text in it."""
        return self.messages.filter(has_text=text)

    async def choose(self, text: str, item: str) -> None:
        """Open a message's menu and press a button of it."""
        message = self.message(text)
        await message.hover()
        await message.locator(".more").click()
        await self.menu.get_by_role("button", name=item, exact=True).click()


async def arrive(open_page: OpenPage, url: str, name: str = "", *, moderator: bool = False) -> Person:
    """Somebody opens the page, and signs in if they have a name."""
    person = Person(await open_page(url))
    await person.here()
    if name:
        await person.sign_in(name, moderator=moderator)
    return person
