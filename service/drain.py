"""Closing all sessions in waves, so that their reconnects do not arrive as one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Protocol

logger = logging.getLogger(__name__)

#: Seconds between two waves.
WAVE = 0.1


class Closable(Protocol):
    """A connection that can be asked to close."""

    def shutdown(self) -> None:
        """Close, telling the client why."""


async def drain(connections: Sequence[Closable], seconds: float) -> None:
    """Ask all connections to close, in random order, spread evenly over some seconds."""
    waiting = list(connections)
    random.shuffle(waiting)
    waves = max(1, int(seconds / WAVE))
    size = -(-len(waiting) // waves) or 1
    for start in range(0, len(waiting), size):
        if start:
            await asyncio.sleep(WAVE)
        for connection in waiting[start : start + size]:
            try:
                connection.shutdown()
            except Exception:  # the others are to be told all the same
                logger.exception("a connection could not be closed")
