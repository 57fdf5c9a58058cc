"""hub.hub: channels are followed while somebody uses them, gaps are told, deliveries counted."""

from __future__ import annotations

import asyncio

from service.channels import Namespace
from service.errors import Unavailable
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import EPOCH, HubWorld, publication, start_at

LOG = Namespace(mode="log")
LATEST = Namespace(mode="latest")


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
