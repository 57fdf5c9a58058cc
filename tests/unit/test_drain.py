"""drain: everybody is asked to close, spread over the time there is."""

from __future__ import annotations

import asyncio

import pytest

from service.drain import WAVE, drain
from tests.unit.fakes.clock import virtual_time


class _Connection:
    """Notes when it was asked."""

    def __init__(self, asked: list[tuple[float, _Connection]]) -> None:
        self._asked = asked

    def shutdown(self) -> None:
        self._asked.append((asyncio.get_running_loop().time(), self))


@pytest.mark.parametrize(("count", "seconds"), [(1000, 10.0), (7, 10.0), (250, 1.05), (1, 5.0)])
def test_closes_are_spread_evenly(count: int, seconds: float) -> None:
    """Each once, no wave larger than its share, and all within the time."""

    @virtual_time
    async def run() -> None:
        asked: list[tuple[float, _Connection]] = []
        connections = [_Connection(asked) for _ in range(count)]
        began = asyncio.get_running_loop().time()
        await drain(connections, seconds)
        assert {id(c) for _, c in asked} == {id(c) for c in connections}
        assert len(asked) == count
        assert asyncio.get_running_loop().time() - began <= seconds + WAVE / 2
        times = [at for at, _ in asked]
        share = -(-count // int(seconds / WAVE))
        assert max(times.count(at) for at in set(times)) <= share

    run()


@virtual_time
async def test_order_is_random() -> None:
    """Who came first does not go first: their reconnects are spread over the nodes."""
    asked: list[tuple[float, _Connection]] = []
    connections = [_Connection(asked) for _ in range(100)]
    await drain(connections, 10)
    assert [c for _, c in asked] != connections


@virtual_time
async def test_no_time_and_nobody() -> None:
    """Zero seconds: all at once. No connections: nothing."""
    asked: list[tuple[float, _Connection]] = []
    began = asyncio.get_running_loop().time()
    await drain([_Connection(asked) for _ in range(10)], 0)
    await drain([], 10)
    assert len(asked) == 10
    assert asyncio.get_running_loop().time() == began
