"""session.session: the order of commands, how often they may come, how many at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.session import commands
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.session import World, publish_command, subscribe_command

pytestmark = pytest.mark.usefixtures("loop_time")


# Rates


@virtual_time
async def test_beyond_the_command_rate() -> None:
    """A burst is fine; one more ends the session with 3509, once."""
    client = World(subscriptions=10, commands_burst=10, commands_per_second=1).client()
    client.send(*[b'{"id":%d,"ping":{}}' % i for i in range(2, 11)])
    assert client.close_code == 0
    client.send(b"{}", b"{}")
    assert [d.code for d in client.transport.closed] == [3509]
    assert client.ids == list(range(2, 11))


@virtual_time
async def test_empty_lines_count() -> None:
    """All but one at a message's end."""
    client = World(subscriptions=10, commands_burst=10, commands_per_second=1).client()
    for number in range(2, 11):
        client.send(b'{"id":%d,"ping":{}}\n' % number)
    assert client.close_code == 0
    client.send(b"\n" * 100_000)
    assert [d.code for d in client.transport.closed] == [3509]


@virtual_time
async def test_the_rate_is_sustained() -> None:
    """Who keeps to it is never closed."""
    client = World(subscriptions=2, commands_burst=2, commands_per_second=10).client()
    for number in range(2, 200):
        await asyncio.sleep(0.1)
        client.send(b'{"id":%d,"ping":{}}' % number)
    assert client.close_code == 0


# Lanes


@virtual_time
async def test_commands_of_one_channel_run_in_order() -> None:
    """The second begins when the first has ended, and is answered after it."""
    world = World()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = world.client()
    client.send(
        publish_command(2, data=b"1"),
        publish_command(3, data=b"2"),
        b'{"id":4,"unsubscribe":{"channel":"log:a"}}',
    )
    await turns()
    assert world.publisher.begun == [b"1"]
    assert client.ids == []
    world.publisher.gates[b"1"].set()
    await turns(10)
    assert [data for _, data, _ in world.publisher.published] == [b"1", b"2"]
    assert client.ids == [2, 3, 4]


@virtual_time
async def test_channels_do_not_wait_for_each_other() -> None:
    """Nor do pings and what needs nothing from Redis."""
    world = World()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = world.client()
    client.send(publish_command(2, "log:a", b"1"), publish_command(3, "log:b", b"2"), b'{"id":4,"ping":{}}')
    await turns()
    assert sorted(client.ids) == [3, 4]
    world.publisher.gates[b"1"].set()
    await turns()
    assert sorted(client.ids) == [2, 3, 4]


@virtual_time
async def test_a_refused_command_does_not_stop_its_lane() -> None:
    """Those behind it run; each has its answer."""
    world = World()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = world.client()
    malformed = b'{"id":3,"publish":{"channel":"log:a"}}'
    client.send(
        publish_command(2, data=b"1"),
        malformed,
        publish_command(4, data=b"2"),
        b'{"id":5,"fly":{"channel":"log:a"}}',
    )
    world.publisher.gates[b"1"].set()
    await turns(10)
    answers = {answer["id"]: answer for answer in client.answers}
    assert answers[3]["error"]["code"] == 107
    assert answers[5]["error"]["code"] == 104
    assert "publish" in answers[2]
    assert "publish" in answers[4]


@pytest.mark.parametrize("waits", [True, False])
@virtual_time
async def test_an_answer_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, *, waits: bool) -> None:
    """It ends the session with 3004: no lane is left in which nothing runs any more."""

    async def later() -> dict[str, Any]:
        return {"not": object()}

    result = {"not": object()}
    monkeypatch.setitem(commands.HANDLERS, "unsubscribe", lambda *_: later() if waits else result)
    world = World()
    client = world.client()
    client.send(publish_command(2), b'{"id":3,"unsubscribe":{"channel":"log:a"}}')
    await turns(10)
    assert client.ids == [2]
    assert client.close_code == 3004


@virtual_time
async def test_unsubscribe_waits_for_the_subscribe_before_it() -> None:
    """Racing each other they leave nothing behind."""
    world = World()
    world.feed.go.clear()
    client = world.client()
    client.send(subscribe_command(2), b'{"id":3,"unsubscribe":{"channel":"log:a"}}')
    await turns()
    world.feed.go.set()
    await turns(10)
    assert client.ids == [2, 3]
    channel = world.hub.get("log:a")
    assert channel is not None
    assert len(channel) == 0
    assert client.session.subscriptions == {}


# Commands in flight


@virtual_time
async def test_commands_in_flight_are_bounded() -> None:
    """At the bound reading pauses; with the first answer it goes on."""
    world = World(commands_in_flight=3)
    for data in (b"1", b"2", b"3"):
        world.publisher.gates[data] = asyncio.Event()
    client = world.client()
    client.send(publish_command(2, "log:a", b"1"), publish_command(3, "log:a", b"2"))
    assert client.transport.paused == 0
    client.send(publish_command(4, "log:b", b"3"))
    assert client.transport.paused == 1
    client.send(publish_command(5, "log:b", b"4"))  # was read with the others
    assert client.transport.paused == 1
    for data in (b"1", b"2", b"3"):
        world.publisher.gates[data].set()
        await turns(10)
    assert client.transport.paused == 0
    assert sorted(client.ids) == [2, 3, 4, 5]
