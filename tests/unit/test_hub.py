"""hub.hub: every subscriber gets what was delivered while it was subscribed, once and in order."""

from __future__ import annotations

import asyncio

import pytest

from service.channels import Namespace
from service.errors import Unavailable
from service.hub import flusher as flusher_module
from service.hub.flusher import SLICE, STRIDE
from service.hub.outbox import PIECE
from tests.unit.fakes.clock import Clock, turns, virtual_time
from tests.unit.fakes.fanout import EPOCH, HubWorld, publication, start_at

LOG = Namespace(mode="log")
LATEST = Namespace(mode="latest")
GATHERED = Namespace(mode="log", coalesce_ms=50)
GATHERED_LATEST = Namespace(mode="latest", coalesce_ms=50)

# Following


async def test_two_first_subscribers_share_one_beginning() -> None:
    """Both come at the same time; the channel is followed once, and both get everything."""
    world = HubWorld()
    world.feed.go.clear()
    one, other = world.socket(), world.socket()
    joining = [asyncio.create_task(world.subscribed("log:a", LOG, sock)) for sock in (one, other)]
    await turns()
    assert world.hub.get("log:a") is None  # followed, but not begun
    world.feed.go.set()
    await asyncio.gather(*joining)
    world.deliver("log:a", 11)
    assert world.feed.followed == ["log:a"]
    assert one.numbers("log:a") == other.numbers("log:a") == [11]


async def test_a_first_subscriber_that_goes_away_leaves_the_others_alone() -> None:
    """Its cancellation is its own."""
    world = HubWorld()
    world.feed.go.clear()
    sock = world.socket()
    gone = asyncio.create_task(world.hub.hold("log:a", LOG))
    stays = asyncio.create_task(world.subscribed("log:a", LOG, sock))
    await turns()
    gone.cancel()
    await turns()
    world.feed.go.set()
    await stays
    world.deliver("log:a", 11)
    assert sock.numbers("log:a") == [11]


async def test_what_keeps_a_channel_from_being_followed_is_told_to_all() -> None:
    """Nothing is left behind, and the next one tries anew."""
    world = HubWorld()
    world.feed.failure = Unavailable("no Redis")
    results = await asyncio.gather(*(world.hub.hold("log:a", LOG) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert world.metrics.registry.get_sample_value("streamgate_channels") == 0
    world.feed.failure = None
    channel = await world.hub.hold("log:a", LOG)
    assert channel.epoch == EPOCH
    assert world.feed.followed == ["log:a"] * 2
    assert world.feed.unfollowed == []


@virtual_time
async def test_a_channel_is_followed_a_while_after_its_last_user() -> None:
    """A reload does not churn; then it is forgotten, window and all."""
    world = HubWorld(linger=5)
    channel = await world.hub.hold("log:a", LOG)
    world.deliver("log:a", 11)
    world.hub.release(channel)
    await asyncio.sleep(4.9)
    assert world.feed.unfollowed == []
    again = await world.hub.hold("log:a", LOG)
    assert again is channel
    await asyncio.sleep(60)
    assert world.feed.unfollowed == []
    world.hub.release(channel)
    await asyncio.sleep(5.1)
    assert world.feed.unfollowed == ["log:a"]
    assert world.metrics.registry.get_sample_value("streamgate_channels") == 0
    assert world.budget.bytes == 0
    world.deliver("log:a", 12)  # a stray one


@virtual_time
async def test_subscriptions_keep_a_channel() -> None:
    """The last to leave starts the linger, whoever came first."""
    world = HubWorld(linger=5)
    one, other = world.socket(), world.socket()
    await world.subscribed("log:a", LOG, one, other)
    channel = world.hub.get("log:a")
    assert channel is not None
    world.hub.remove(channel, one.outbox)
    world.hub.remove(channel, one.outbox)  # twice is once
    await asyncio.sleep(60)
    assert world.feed.unfollowed == []
    world.hub.remove(channel, other.outbox)
    await asyncio.sleep(5.1)
    assert world.feed.unfollowed == ["log:a"]


async def test_begin_sets_the_cursor_and_the_window() -> None:
    """The newest entry is known; what came before it is not."""
    world = HubWorld()
    world.feed.start = start_at(10, publication(9))
    channel = await world.hub.hold("log:a", LOG)
    assert (channel.cursor, channel.epoch) == ((10, 0), EPOCH)
    assert channel.window.newest is not None
    assert channel.window.after((8, 2**64 - 1)) == [channel.window.newest]
    assert channel.window.after((8, 0)) is None


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


# Order while a fan-out takes many turns


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


# Gaps


async def test_log_subscribers_are_told_of_a_gap() -> None:
    """They are unsubscribed, each of them, before anything that comes after it."""
    world = HubWorld()
    one, other = world.socket(), world.socket()
    await world.subscribed("log:a", LOG, one, other)
    channel = world.hub.get("log:a")
    assert channel is not None
    world.deliver("log:a", 11)
    world.hub.gap("log:a", start_at(20, publication(20), "epoch-2"))
    world.hub.flush()
    world.deliver("log:a", 21)
    assert world.gaps == [(one.outbox, "log:a"), (other.outbox, "log:a")]
    assert one.numbers("log:a") == other.numbers("log:a") == [11]
    assert len(channel) == 0
    assert (channel.cursor, channel.epoch) == ((21, 0), "epoch-2")
    assert channel.window.after((11, 0)) is None


async def test_latest_subscribers_get_the_newest_after_a_gap() -> None:
    """They missed nothing that matters, and stay."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("latest:a", LATEST, sock)
    world.deliver("latest:a", 11)
    world.hub.gap("latest:a", start_at(20, publication(20)))
    world.hub.flush()
    world.deliver("latest:a", 21)
    assert world.gaps == []
    assert sock.numbers("latest:a") == [11, 20, 21]


async def test_a_gap_without_a_newest_entry_is_silent_for_latest() -> None:
    """There is nothing to tell."""
    world = HubWorld()
    sock = world.socket()
    await world.subscribed("latest:a", LATEST, sock)
    world.hub.gap("latest:a", start_at(0))
    world.hub.flush()
    assert sock.writes == []


async def test_a_gap_of_a_channel_nobody_follows() -> None:
    """A stray call has no effect."""
    world = HubWorld()
    world.hub.gap("log:a", start_at(5))
    world.hub.begin("log:a", start_at(5))
    assert world.metrics.registry.get_sample_value("streamgate_channels") == 0


# Counting


async def test_deliveries_are_counted_once_for_each_subscriber() -> None:
    """By namespace, never by channel."""
    world = HubWorld()
    one, other = world.socket(), world.socket()
    await world.subscribed("log:a", LOG, one, other)
    world.deliver("log:a", 11, 12)
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_deliveries_total", {"namespace": "log"}) == 4
    assert sample("streamgate_subscriptions") == 2
    assert sample("streamgate_delivered_bytes_total") == 2 * len(one.written)
