"""The owner of tasks that do one thing and end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.errors import StreamgateError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Tasks:
    """Holds a reference to each task, and awaits their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it. Whoever wants its result awaits it, shielded; nobody has to."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        # Our own errors are for those who await; with any other something is wrong with us.
        if exc is not None and not isinstance(exc, StreamgateError):
            logger.error("a task failed", exc_info=exc)

    async def aclose(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
