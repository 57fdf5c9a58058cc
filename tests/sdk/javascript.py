"""The official JavaScript SDK in a process of its own, driven by js/driver.mjs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.support.checker import Given
from tests.support.waiting import DEADLINE

Event = dict[str, Any]


class Sdk:
    """One client of the SDK in a Node.js process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_id = 0
        #: Publications by channel, as the application got them.
        self.received: dict[str, list[Given]] = {}
        #: Events that nobody waited for.
        self.passed: list[Event] = []

    async def tell(self, command: str, **parameters: Any) -> int:
        """Send a command without waiting for anything."""
        assert self._process.stdin is not None
        self._last_id += 1
        line = json.dumps({"id": self._last_id, "command": command, **parameters})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        return self._last_id

    async def call(self, command: str, **parameters: Any) -> Event:
        """Send a command and return its result, or the failure."""
        number = await self.tell(command, **parameters)
        return await self.until(lambda event: event.get("id") == number)

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event that is wanted; publications on the way are recorded."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while True:
                line = await self._process.stdout.readline()
                assert line, "the SDK's process ended"
                event: Event = json.loads(line)
                if event["event"] == "publication" and not (event.get("tags") or {}).get("snapshot"):
                    given = Given(event.get("offset", 0), event["data"])
                    self.received.setdefault(event["channel"], []).append(given)
                if wanted(event):
                    return event
                self.passed.append(event)

    async def until_event(self, name: str) -> Event:
        """The next event of this name."""
        return await self.until(lambda event: event["event"] == name)

    async def until_data(self, data: Any) -> Event:
        """The next publication with this data."""
        return await self.until(lambda event: event["event"] == "publication" and event["data"] == data)

    async def give_token(self, token: str, channel: str | None = None) -> None:
        """Wait until the SDK asks the application for a token, and give it this one."""
        asked = await self.until(
            lambda event: event["event"] == "getToken" and event.get("channel") == channel
        )
        await self.tell("token", request=asked["request"], token=token)
