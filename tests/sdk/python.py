"""The Python SDK in a test's own event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from centrifuge import Client

from tests.support.waiting import DEADLINE


def read(data: Any) -> Any:
    """A payload as the SDK gives it to the application: in Protobuf it is bytes, here of JSON."""
    return json.loads(data) if isinstance(data, bytes) else data


def payload(data: Any, protobuf: bool) -> Any:
    """A payload as the SDK takes it."""
    return json.dumps(data).encode() if protobuf else data


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Client]:
    """Connect; at the end disconnect, and wait until nothing of the client is left.

    The SDK closes its connections in tasks of their own, which must not outlive the event loop.
    """
    before = asyncio.all_tasks()
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()
        if closing := asyncio.all_tasks() - before:
            await asyncio.wait(closing, timeout=DEADLINE)
