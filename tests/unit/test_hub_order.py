"""hub.hub: nothing is overtaken while a fan-out takes many turns of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from service.channels import Namespace
from service.hub import flusher as flusher_module
from service.hub.flusher import SLICE, STRIDE
from tests.unit.fakes.clock import Clock, turns
from tests.unit.fakes.fanout import HubWorld

LOG = Namespace(mode="log")
LATEST = Namespace(mode="latest")
GATHERED = Namespace(mode="log", coalesce_ms=50)


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """With each look at the clock a slice is over."""
    clock = Clock(step=SLICE)
    monkeypatch.setattr(flusher_module, "time", clock)
    return clock


async def test_a_batch_does_not_overtake_the_one_before(slow_clock: Clock) -> None:
    """A publication to many takes many turns; the next one of the channel comes meanwhile."""
    world = HubWorld()
    socks = [world.socket() for _ in range(3 * STRIDE)]
    await world.subscribed("log:a", LOG, *socks)
    world.deliver("log:a", 11)
    assert not world.flusher.idle
    world.deliver("log:a", 12)
    await turns(20)
    assert [sock.numbers("log:a") for sock in socks] == [[11, 12]] * len(socks)


async def test_intervals_keep_the_order_of_each_channel(slow_clock: Clock) -> None:
    """The same where the session has output of another channel pending."""
    world = HubWorld()
    socks = [world.socket() for _ in range(3 * STRIDE)]
    await world.subscribed("log:a", LOG, *socks)
    await world.subscribed("log:b", GATHERED, *socks)
    world.deliver("log:a", 11)
    world.deliver("log:b", 11)
    world.deliver("log:a", 12)
    world.deliver("log:b", 12)
    await asyncio.sleep(0.1)
    await turns(20)
    for name in ("log:a", "log:b"):
        assert [sock.numbers(name) for sock in socks] == [[11, 12]] * len(socks)


async def test_latest_does_not_go_back(slow_clock: Clock) -> None:
    """A socket that is full keeps the newest, although the older publication reaches it later."""
    world = HubWorld()
    socks = [world.socket() for _ in range(3 * STRIDE)]
    await world.subscribed("latest:a", LATEST, *socks)
    socks[-1].outbox.block()
    world.deliver("latest:a", 11)
    world.deliver("latest:a", 12)
    await turns(20)
    socks[-1].open()
    assert socks[-1].numbers("latest:a") == [12]
    assert socks[0].numbers("latest:a") == [11, 12]


@pytest.mark.parametrize("namespace", [LOG, LATEST])
async def test_who_leaves_during_a_fan_out(namespace: Namespace, slow_clock: Clock) -> None:
    """Nothing of the channel is written after the answer to unsubscribe."""
    world = HubWorld()
    socks = [world.socket() for _ in range(3 * STRIDE)]
    await world.subscribed("log:a", namespace, *socks)
    channel = world.hub.get("log:a")
    assert channel is not None
    world.deliver("log:a", 11)
    leaver = socks[-1]
    world.hub.remove(channel, leaver.outbox)
    leaver.outbox.send(b"left\n")
    world.deliver("log:a", 12)
    await turns(20)
    assert leaver.written.endswith(b"left\n")
    assert leaver.numbers("log:a") in ([], [11])


async def test_a_session_that_fails_stops_nobody_else() -> None:
    """Its exception neither reaches the tail nor keeps the next batch back."""
    world = HubWorld()
    first, broken, last = (world.socket() for _ in range(3))
    await world.subscribed("log:a", LOG, first, broken, last)

    def fail(data: bytes) -> None:
        raise RuntimeError("no")

    broken.outbox.write = fail
    world.deliver("log:a", 11)
    world.deliver("log:a", 12)
    assert first.numbers("log:a") == last.numbers("log:a") == [11, 12]
    assert broken.owner.reasons == ["error"]


async def test_a_session_that_closes_during_a_fan_out(slow_clock: Clock) -> None:
    """Nothing follows its close, even if its socket has room again meanwhile."""
    world = HubWorld()
    socks = [world.socket() for _ in range(3 * STRIDE)]
    await world.subscribed("log:a", LOG, *socks)
    world.deliver("log:a", 11)
    ending = socks[-1]
    ending.outbox.close()
    ending.open()
    await turns(20)
    assert ending.writes == []
