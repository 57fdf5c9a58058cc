"""Deadlines, and the one place that asks again until something is true."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

#: Seconds that a test waits for what should come at once, on a loaded machine.
DEADLINE = 15.0

#: Seconds between two questions of `eventually`.
_PACE = 0.02


@overload
async def eventually(ask: Callable[[], Awaitable[T]], what: str, *, seconds: float = ...) -> T: ...
@overload
async def eventually(ask: Callable[[], T], what: str, *, seconds: float = ...) -> T: ...
async def eventually(ask: Callable[[], Any], what: str, *, seconds: float = DEADLINE) -> Any:
    """Ask until the answer is true, and return it.

    For what offers no event to wait for: another process' probes and metrics.

    Raises:
        AssertionError: the answer was not true in time; the text holds `what` and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds} s: {what} (last answer: {value!r})")
        await asyncio.sleep(_PACE)
