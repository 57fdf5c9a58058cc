"""Asking Redis again where an answer was lost, for what is safe to be done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import Unavailable
from service.streams.commands import Commands

T = TypeVar("T")

#: Seconds within which it is tried. With the time-out of a command (1.5 s) the client still has
#: its answer within 2 s.
RETRY_SECONDS = 0.4

#: Seconds between two looks at a connection that was just lost.
RETRY_PAUSE = 0.02


async def again(commands: Commands, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to `ask`, which Redis recognizes if it was carried out before.

    Raises:
        Unavailable: there was none in time.
    """
    try:
        async with asyncio.timeout(RETRY_SECONDS):
            while True:
                await commands.wait_connected()
                try:
                    return await ask()
                except Unavailable:  # lost again, or nobody has noticed yet that it was lost
                    await asyncio.sleep(RETRY_PAUSE)
    except TimeoutError:
        raise Unavailable("not connected to Redis") from None
