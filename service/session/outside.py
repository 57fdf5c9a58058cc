"""What the application does to sessions and channels of this node from outside (session/orders.py)."""

from __future__ import annotations

import logging

from service.errors import StreamgateError
from service.session.context import Context

logger = logging.getLogger(__name__)


class Outside:
    """Does it, in tasks of the node's where it takes reading."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def forget(self, name: str) -> None:
        """What a channel's stream held was removed: nobody shall be given it from memory."""
        self._context.tasks.start(self._forget(name))

    async def _forget(self, name: str) -> None:
        channel = self._context.hub.get(name)
        if channel is None:
            return
        channel.window.evict()
        try:
            # What the tail has read before the removal and not delivered yet goes into the window, too.
            await self._context.hub.sync(channel)
        except StreamgateError as exc:
            logger.warning("a removed history may still be in memory: %s", exc)
        channel.window.evict()
