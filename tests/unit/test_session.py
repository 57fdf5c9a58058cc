"""session.session: the protocol's state machine, from the first command to the last."""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest

from service.errors import SHUTDOWN, CommandFailed, ReplyError, Unavailable
from service.session.state import State
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import EPOCH, publication
from tests.unit.fakes.session import World, publish_command, subscribe_command

pytestmark = pytest.mark.usefixtures("loop_time")


# Connecting


@virtual_time
async def test_connect_is_answered() -> None:
    """With the client's id, and what it has to know of pings."""
    client = World().client(connected=False)
    client.send(b'{"id":1,"connect":{}}')
    (answer,) = client.answers
    assert answer["id"] == 1
    result = answer["connect"]
    assert (result["client"], result["ping"], result["pong"], result["node"]) == (
        client.session.id,
        25,
        True,
        "node",
    )
    assert client.session.state is State.CONNECTED


@virtual_time
async def test_connect_and_subscribes_in_one_message() -> None:
    """SDKs pipeline them; they are done in order."""
    client = World().client(connected=False)
    client.send(b'{"id":1,"connect":{}}', subscribe_command(2), b"", b'{"id":3,"ping":{}}')
    await turns()
    assert sorted(client.ids) == [1, 2, 3]
    assert client.ids[0] == 1


@pytest.mark.parametrize(
    "first",
    [
        b'{"id":1,"subscribe":{"channel":"log:a"}}',
        b'{"id":1,"ping":{}}',
        b'{"send":{}}',
        b'{"id":1,"fly":{}}',
    ],
)
@virtual_time
async def test_the_first_command_is_connect(first: bytes) -> None:
    """Else 3501, and nothing that follows in the message is done."""
    client = World().client(connected=False)
    client.send(first, b'{"id":2,"connect":{}}')
    assert client.close_code == 3501
    assert client.received == []


@virtual_time
async def test_connect_comes_once() -> None:
    """A second one is 3501."""
    client = World().client()
    client.send(b'{"id":2,"connect":{}}')
    assert client.close_code == 3501


@virtual_time
async def test_what_is_no_command_ends_the_session() -> None:
    """3501; what was answered before it still goes out."""
    client = World().client()
    client.send(b'{"id":2,"ping":{}}', b"hello", b'{"id":3,"ping":{}}')
    assert client.close_code == 3501
    assert client.ids == [2]


# Failures


@pytest.mark.parametrize(
    ("failure", "code", "temporary"),
    [
        (Unavailable("gone"), 100, True),
        (CommandFailed("OOM command not allowed"), 100, True),
        (CommandFailed("WRONGTYPE Operation against a key"), 108, False),
        (ReplyError(108, "ids too large"), 108, False),
    ],
)
@virtual_time
async def test_redis_failures_are_answered(failure: Exception, code: int, *, temporary: bool) -> None:
    """Never with Redis' own words, never by closing the connection."""
    world = World()
    world.publisher.failure = failure
    client = world.client()
    client.send(publish_command(2))
    await turns()
    ((error),) = [answer["error"] for answer in client.answers]
    assert error["code"] == code
    assert error.get("temporary", False) is temporary
    assert "OOM" not in error["message"]
    assert client.close_code == 0
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_command_errors_total", {"code": str(code)}) == 1


@virtual_time
async def test_a_fault_of_ours_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    """3004 and one log record; nothing of it reaches the client."""
    world = World()
    world.publisher.failure = KeyError("secret")
    client = world.client()
    client.send(publish_command(2), publish_command(3))
    with caplog.at_level(logging.ERROR):
        await turns(10)
    assert client.close_code == 3004
    assert b"secret" not in b"".join(client.received)
    assert len(caplog.records) == 1
    assert len(world.publisher.begun) == 1


@virtual_time
async def test_a_payload_nested_too_deeply_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """It is answered, and neither closes the connection nor fills the log."""
    client = World().client()
    with caplog.at_level(logging.ERROR):
        client.send(publish_command(2, data=b"[" * 300 + b"]" * 300))
        await turns()
    assert client.close_code == 0
    assert client.ids == [2]
    assert caplog.records == []


# What goes out


@virtual_time
async def test_publications_follow_the_answer_tosubscribe_command() -> None:
    """The client never hears of a channel before it knows that it has it."""
    world = World()
    client = world.client()
    client.send(subscribe_command(2))
    await turns()
    world.hub_world.deliver("log:a", 11)
    lines = client.received
    assert orjson.loads(lines[0])["subscribe"]["epoch"] == EPOCH
    assert lines[1] == b"log:a 11 {}"


@virtual_time
async def test_a_gap_is_told() -> None:
    """An unsubscribe push, 2500: the SDK subscribes again with its position."""
    world = World()
    client = world.client()
    client.send(subscribe_command(2))
    await turns()
    client.session.unsubscribed("log:a")
    push = client.answers[-1]["push"]
    assert push == {"channel": "log:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    assert client.session.subscriptions == {}


@virtual_time
async def test_a_window_serves_a_second_subscriber() -> None:
    """Nothing is read, nothing is waited for: the answer comes in the same turn."""
    world = World()
    first, second = world.client(), world.client()
    first.send(subscribe_command(2))
    await turns()
    world.hub.deliver("log:a", [publication(11)], (11, 0))
    world.hub.flush()
    second.send(
        b'{"id":2,"subscribe":{"channel":"log:a","recover":true,"epoch":"epoch-1","offset":%d}}' % (10 << 12)
    )
    result = second.answers[0]["subscribe"]
    assert result["recovered"] is True
    assert [p["offset"] for p in result["publications"]] == [11 << 12]
    assert world.history.calls == []


# The end


@virtual_time
async def test_close_sends_what_is_pending_first() -> None:
    """An answer that was ready is not lost; then the close, then nothing."""
    world = World()
    client = world.client()
    client.send(subscribe_command(2))
    await turns()
    client.session.outbox.flush()
    client.send(b'{"id":3,"ping":{}}')
    client.session.close(SHUTDOWN)
    assert client.ids == [2, 3]
    client.session.send(b"late")
    world.hub_world.deliver("log:a", 11)
    client.send(b'{"id":4,"ping":{}}')
    await turns()
    assert client.ids == [2, 3]
    assert [d.code for d in client.transport.closed] == [3001]


@virtual_time
async def test_closing_twice_is_closing_once() -> None:
    """The first reason stands."""
    world = World()
    client = world.client()
    client.session.close(SHUTDOWN)
    client.session.overflow("outbox")
    client.session.closed()
    client.session.closed()
    assert [d.code for d in client.transport.closed] == [3001]
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_connections_closed_total", {"code": "3001"}) == 1


@virtual_time
async def test_a_lost_connection_leaves_nothing_behind() -> None:
    """Subscriptions, deadlines and pending output are gone."""
    world = World()
    turning = asyncio.create_task(world.wheel.run())
    client = world.client()
    client.send(subscribe_command(2))
    await turns()
    client.session.closed()
    channel = world.hub.get("log:a")
    assert channel is not None
    assert len(channel) == 0
    assert client.session.due == 0
    world.hub_world.deliver("log:a", 11)
    await asyncio.sleep(60)
    assert client.transport.aborted == 0
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_connections_closed_total", {"code": "client"}) == 1
    turning.cancel()


@virtual_time
async def test_a_session_that_ends_while_it_subscribes() -> None:
    """The subscription is not added, the channel is released, nothing is answered."""
    world = World()
    world.feed.go.clear()
    client = world.client()
    client.send(subscribe_command(2), publish_command(3))
    await turns()
    client.session.closed()
    world.feed.go.set()
    await turns(10)
    channel = world.hub.get("log:a")
    assert channel is not None
    assert len(channel) == 0
    assert not channel.users
    assert client.received == []
    assert world.publisher.begun == []  # what waited behind it is not begun any more
