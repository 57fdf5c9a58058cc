"""session.session: what ends a session whose client says nothing, or reads nothing."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import SHUTDOWN
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.session import FakeClient, World, subscribe_command

pytestmark = pytest.mark.usefixtures("loop_time")


async def _pinged(client: FakeClient) -> None:
    """Return when the client has been pinged."""
    pinged = asyncio.Event()

    def write_and_tell(data: bytes) -> None:
        client.transport.written.append(data)
        pinged.set()

    client.session.outbox.write = write_and_tell
    await pinged.wait()
    assert client.received == [b"{}"]


# Connecting and closing


@virtual_time
async def test_a_connection_without_connect_is_stale() -> None:
    """3502 after ten seconds, and not before."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client(connected=False)
    client.send(b"{}")  # a pong is no connect
    await asyncio.sleep(9.9)
    assert client.close_code == 0
    await asyncio.sleep(1)
    assert client.close_code == 3502
    turning.cancel()


@virtual_time
async def test_a_close_that_is_not_answered_is_cut_off() -> None:
    """Five seconds are enough."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    client.session.close(SHUTDOWN)
    await asyncio.sleep(4.9)
    assert client.transport.aborted == 0
    await asyncio.sleep(1)
    assert client.transport.aborted == 1
    turning.cancel()


# Pings


@virtual_time
async def test_pings_go_on_while_pongs_come() -> None:
    """One every 25 seconds, for as long as the client answers."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    pings = 0
    for _ in range(400):
        await asyncio.sleep(0.5)
        if client.received:
            assert client.received == [b"{}"]
            client.transport.written.clear()
            pings += 1
            client.send(b"{}")
    assert client.close_code == 0
    assert 7 <= pings <= 9
    turning.cancel()


@virtual_time
async def test_a_missing_pong_ends_the_session() -> None:
    """3012, eight seconds after the ping."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    began = asyncio.get_running_loop().time()
    await _pinged(client)
    assert asyncio.get_running_loop().time() - began < 26
    await asyncio.sleep(7.8)
    assert client.close_code == 0
    await asyncio.sleep(1)
    assert client.close_code == 3012
    turning.cancel()


@virtual_time
async def test_any_message_is_a_sign_of_life() -> None:
    """A command in the place of a pong is as good."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    await _pinged(client)
    client.send(b'{"id":2,"ping":{}}')
    await asyncio.sleep(12)
    assert client.close_code == 0
    turning.cancel()


@virtual_time
async def test_first_pings_are_spread() -> None:
    """Sessions that came at one time are not pinged at one time."""
    world = World()
    clients = [world.client() for _ in range(50)]
    dues = {client.session.due for client in clients}
    assert len(dues) > 10


# Clients that do not read


@virtual_time
async def test_a_blocked_session_is_given_up_by_age() -> None:
    """3008 after so many seconds without room; it is not pinged meanwhile, nor closed for a missing pong."""
    world = World(blocked_seconds=60)
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    client.session.outbox.block()
    await asyncio.sleep(60)
    assert client.close_code == 0
    await asyncio.sleep(30)
    assert client.close_code == 3008
    assert client.transport.written == []
    turning.cancel()


@virtual_time
async def test_a_ping_that_is_stuck_is_not_held_against_the_client() -> None:
    """Blocked after the ping was queued: its pong cannot come."""
    world = World(blocked_seconds=60)
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    await _pinged(client)
    client.session.outbox.block()
    await asyncio.sleep(20)
    assert client.close_code == 0
    client.session.outbox.unblock()
    client.transport.written.clear()
    await asyncio.sleep(2)
    assert client.received == [b"{}"]  # asked again, now that it reads
    client.send(b"{}")
    await asyncio.sleep(10)
    assert client.close_code == 0
    turning.cancel()


@virtual_time
async def test_a_client_that_reads_slowly_is_not_given_up_by_age() -> None:
    """Full whenever one looks, but taking something in between: a `latest` client may live like that."""
    world = World(blocked_seconds=10)
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    client.session.outbox.block()
    for _ in range(400):
        await asyncio.sleep(0.1)
        client.session.outbox.unblock()
        client.session.outbox.block()
    assert client.close_code == 0
    turning.cancel()


@virtual_time
async def test_an_overflow_ends_the_session_as_slow() -> None:
    """3008, at once, and it has left its channels."""
    world = World(outbox_bytes=4096)
    client = world.client()
    client.send(subscribe_command(2))
    await turns()
    client.session.outbox.flush()
    client.session.outbox.block()
    for number in range(11, 20):
        world.hub_world.deliver("log:a", number, data=b'"%b"' % (b"x" * 1000))
    assert client.close_code == 3008
    channel = world.hub.get("log:a")
    assert channel is not None
    assert len(channel) == 0
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_slow_disconnects_total", {"reason": "outbox"}) == 1
