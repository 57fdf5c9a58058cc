"""Nodes that the tests of a module share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from tests.conftest import assert_no_alarm
from tests.support.node import NodeProcess


@asynccontextmanager
async def running(
    redis_url: str, *settings: Mapping[str, Any], may_end: bool = False
) -> AsyncIterator[list[NodeProcess]]:
    """One node for each of the settings; at the end each log is searched for exceptions.

    Args:
        may_end: the test ends nodes itself.
    """
    with ExitStack() as stack:
        nodes = [stack.enter_context(NodeProcess(redis_url, each)) for each in settings]
        for node in nodes:  # at once: most of a start is imports
            node.spawn()
        for node in nodes:
            await node.wait_ready()
        yield nodes
        for node in nodes:
            assert may_end or node.returncode is None, f"{node} ended:\n{node.log}"
            assert_no_alarm(node)
