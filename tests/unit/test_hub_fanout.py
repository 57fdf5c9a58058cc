"""hub.hub: every subscriber gets what was delivered while it was subscribed, once and in order."""

from __future__ import annotations

import asyncio

import pytest

from service.channels import Namespace
from service.hub.outbox import PIECE
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import HubWorld, publication

LOG = Namespace(mode="log")
LATEST = Namespace(mode="latest")
GATHERED = Namespace(mode="log", coalesce_ms=50)
GATHERED_LATEST = Namespace(mode="latest", coalesce_ms=50)


# Fan-out


@pytest.mark.parametrize("namespace", [LOG, GATHERED, LATEST, GATHERED_LATEST])
def test_everybody_gets_every_batch_in_order(namespace: Namespace) -> None:
    """One or many subscribers, one or many channels at a time, with and without an interval."""

    @virtual_time
    async def run() -> None:
        world = HubWorld()
        ab, a = world.socket(), world.socket()
        await world.subscribed("log:a", namespace, ab, a)
        await world.subscribed("log:b", namespace, ab)
        world.deliver("log:a", 11)
        world.deliver("log:a", 12, 13, flush=False)
        world.deliver("log:b", 11, flush=False)
        world.hub.flush()
        world.deliver("log:b", 12)
        await asyncio.sleep(1)
        assert ab.numbers("log:a") == a.numbers("log:a") == [11, 12, 13]
        assert ab.numbers("log:b") == [11, 12]
        assert world.flusher.backlog == 0

    run()


async def test_a_single_batch_goes_straight_out() -> None:
    """Nothing pending: it is written before flush returns."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("log:a", LOG, sock)
    world.deliver("log:a", 11)
    assert sock.numbers("log:a") == [11]
    assert sock.outbox.pending == []


@virtual_time
async def test_an_interval_gathers() -> None:
    """What comes within it leaves in one write."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("log:a", GATHERED, sock)
    for number in (11, 12, 13):
        world.deliver("log:a", number)
        await asyncio.sleep(0.01)
    assert sock.writes == []
    await asyncio.sleep(0.03)
    assert len(sock.writes) == 1
    assert sock.numbers("log:a") == [11, 12, 13]


@virtual_time
async def test_the_shorter_interval_counts() -> None:
    """A session that gathers one channel for long gets another one after that one's own interval."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("log:slow", Namespace(coalesce_ms=1000), sock)
    await world.subscribed("log:fast", Namespace(coalesce_ms=10), sock)
    world.deliver("log:slow", 11)
    world.deliver("log:fast", 11)
    await asyncio.sleep(0.1)
    assert sock.numbers("log:fast") == [11]


async def test_who_subscribes_later_begins_after_the_cursor() -> None:
    """What was fanned out before is not sent again."""
    world = HubWorld()
    early, late = world.socket(), world.socket()
    await world.subscribed("log:a", LOG, early)
    world.deliver("log:a", 11)
    await world.subscribed("log:a", LOG, late)
    world.deliver("log:a", 12)
    assert early.numbers("log:a") == [11, 12]
    assert late.numbers("log:a") == [12]


async def test_who_has_left_gets_nothing() -> None:
    """Not even the conflated value that waited for room."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("latest:a", LATEST, sock)
    channel = world.hub.get("latest:a")
    assert channel is not None
    sock.outbox.block()
    world.deliver("latest:a", 11)
    world.hub.remove(channel, sock.outbox)
    world.deliver("latest:a", 12)
    sock.open()
    assert sock.writes == []
    assert sock.outbox.held == 0


async def test_a_batch_of_undeliverable_entries_moves_the_cursor() -> None:
    """There is nothing to fan out, and the next read begins behind them."""
    world = HubWorld()
    channel = await world.hub.hold("log:a", LOG)
    world.hub.deliver("log:a", [], (15, 0))
    world.hub.flush()
    assert channel.cursor == (15, 0)


async def test_an_overflow_in_the_middle_of_a_fan_out() -> None:
    """A session that is closed as slow leaves the channel; the others get their batch."""
    world = HubWorld()
    socks = [world.socket(limit=10) for _ in range(3)]
    await world.subscribed("log:a", LOG, *socks)
    channel = world.hub.get("log:a")
    assert channel is not None
    slow = socks[1]
    slow.owner.on_overflow = lambda: world.hub.remove(channel, slow.outbox)
    slow.outbox.block()
    world.deliver("log:a", 11, flush=False)
    world.deliver("log:a", 12)
    assert slow.owner.reasons == ["outbox"]
    assert socks[0].numbers("log:a") == socks[2].numbers("log:a") == [11, 12]
    assert len(channel) == 2


# Full sockets


@pytest.mark.parametrize(("namespace", "expected"), [(LOG, [11, 12, 13]), (LATEST, [13])])
async def test_a_full_socket_gets_what_the_mode_says(namespace: Namespace, expected: list[int]) -> None:
    """log: everything, later; latest: the newest, later. The others get all of it now."""
    world = HubWorld()
    stuck, reading = world.socket(), world.socket()
    await world.subscribed("log:a", namespace, stuck, reading)
    stuck.outbox.block()
    world.deliver("log:a", 11)
    world.deliver("log:a", 12, 13)
    assert reading.numbers("log:a") == [11, 12, 13]
    stuck.open()
    assert stuck.numbers("log:a") == expected


# Batches too large for one write


async def test_a_large_log_batch_is_split() -> None:
    """All of it arrives, in order, no part beyond a piece."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("log:a", LOG, sock)
    data = b'"%b"' % (b"x" * (PIECE // 4))
    world.deliver("log:a", *range(11, 31), data=data)
    await turns()
    assert sock.numbers("log:a") == list(range(11, 31))
    assert len(sock.writes) > 1
    assert max(map(len, sock.writes)) <= 2 * PIECE


async def test_publications_larger_than_a_piece_go_alone() -> None:
    """A publication is never cut, and none is lost between large ones."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("log:a", LOG, sock)
    large = b'"%b"' % (b"x" * 2 * PIECE)
    publications = [publication(n, large if n % 2 else b"1") for n in range(11, 18)]
    world.hub.deliver("log:a", publications, (17, 0))
    world.hub.flush()
    await turns()
    assert sock.numbers("log:a") == list(range(11, 18))


async def test_of_a_large_latest_batch_only_the_newest_is_sent() -> None:
    """Nobody needs the rest; what it leaves out is counted."""
    world = HubWorld()
    one, other = world.socket(), world.socket()
    await world.subscribed("latest:a", LATEST, one, other)
    world.deliver("latest:a", *range(11, 31), data=b'"%b"' % (b"x" * (PIECE // 4)))
    await turns()
    assert one.numbers("latest:a") == other.numbers("latest:a") == [30]
    assert world.metrics.registry.get_sample_value("streamgate_conflated_total") == 38
