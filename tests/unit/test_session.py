"""session.session: the protocol's state machine, from the first command to the last second."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest

from service.errors import SHUTDOWN, CommandFailed, ReplyError, Unavailable
from service.hub import outbox as outbox_module
from service.session import session as session_module
from service.session import wheel as wheel_module
from service.session.session import State
from tests.unit.fakes import EPOCH, FakeClient, LoopTime, World, publication, turns, virtual_time


@pytest.fixture(autouse=True)
def _loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_module, "time", LoopTime)
    monkeypatch.setattr(session_module, "time", LoopTime)
    monkeypatch.setattr(outbox_module, "time", LoopTime)


def _answers(client: FakeClient) -> list[Any]:
    return [orjson.loads(line) for line in client.received if line.startswith(b"{")]


def _ids(client: FakeClient) -> list[int]:
    return [answer["id"] for answer in _answers(client)]


def _publish(number: int, channel: str = "log:a", data: bytes = b"1") -> bytes:
    return b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (number, channel.encode(), data)


def _subscribe(number: int, channel: str = "log:a") -> bytes:
    return b'{"id":%d,"subscribe":{"channel":"%b"}}' % (number, channel.encode())


async def _pinged(client: FakeClient) -> None:
    """Return when the client has been pinged."""
    pinged = asyncio.Event()

    def write_and_tell(data: bytes) -> None:
        client.transport.written.append(data)
        pinged.set()

    client.session.outbox.write = write_and_tell
    await pinged.wait()
    assert client.received == [b"{}"]


# Connecting


@virtual_time
async def test_connect_is_answered() -> None:
    """With the client's id, and what it has to know of pings."""
    client = World().client(connected=False)
    client.send(b'{"id":1,"connect":{}}')
    (answer,) = _answers(client)
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
    client.send(b'{"id":1,"connect":{}}', _subscribe(2), b"", b'{"id":3,"ping":{}}')
    await turns()
    assert sorted(_ids(client)) == [1, 2, 3]
    assert _ids(client)[0] == 1


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
    assert _ids(client) == [2]


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


# Rates


@virtual_time
async def test_beyond_the_command_rate() -> None:
    """A burst is fine; one more ends the session with 3509, once."""
    client = World(subscriptions=10, commands_burst=10, commands_per_second=1).client()
    client.send(*[b'{"id":%d,"ping":{}}' % i for i in range(2, 11)])
    assert client.close_code == 0
    client.send(b"{}", b"{}")
    assert [d.code for d in client.transport.closed] == [3509]
    assert _ids(client) == list(range(2, 11))


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
    client.send(_publish(2, data=b"1"), _publish(3, data=b"2"), b'{"id":4,"unsubscribe":{"channel":"log:a"}}')
    await turns()
    assert world.publisher.begun == [b"1"]
    assert _ids(client) == []
    world.publisher.gates[b"1"].set()
    await turns(10)
    assert [data for _, data, _ in world.publisher.published] == [b"1", b"2"]
    assert _ids(client) == [2, 3, 4]


@virtual_time
async def test_channels_do_not_wait_for_each_other() -> None:
    """Nor do pings and what needs nothing from Redis."""
    world = World()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = world.client()
    client.send(_publish(2, "log:a", b"1"), _publish(3, "log:b", b"2"), b'{"id":4,"ping":{}}')
    await turns()
    assert sorted(_ids(client)) == [3, 4]
    world.publisher.gates[b"1"].set()
    await turns()
    assert sorted(_ids(client)) == [2, 3, 4]


@virtual_time
async def test_a_refused_command_does_not_stop_its_lane() -> None:
    """Those behind it run; each has its answer."""
    world = World()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = world.client()
    malformed = b'{"id":3,"publish":{"channel":"log:a"}}'
    client.send(
        _publish(2, data=b"1"), malformed, _publish(4, data=b"2"), b'{"id":5,"fly":{"channel":"log:a"}}'
    )
    world.publisher.gates[b"1"].set()
    await turns(10)
    answers = {answer["id"]: answer for answer in _answers(client)}
    assert answers[3]["error"]["code"] == 107
    assert answers[5]["error"]["code"] == 104
    assert "publish" in answers[2]
    assert "publish" in answers[4]


@virtual_time
async def test_unsubscribe_waits_for_the_subscribe_before_it() -> None:
    """Racing each other they leave nothing behind."""
    world = World()
    world.feed.go.clear()
    client = world.client()
    client.send(_subscribe(2), b'{"id":3,"unsubscribe":{"channel":"log:a"}}')
    await turns()
    world.feed.go.set()
    await turns(10)
    assert _ids(client) == [2, 3]
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
    client.send(_publish(2, "log:a", b"1"), _publish(3, "log:a", b"2"))
    assert client.transport.paused == 0
    client.send(_publish(4, "log:b", b"3"))
    assert client.transport.paused == 1
    client.send(_publish(5, "log:b", b"4"))  # was read with the others
    assert client.transport.paused == 1
    for data in (b"1", b"2", b"3"):
        world.publisher.gates[data].set()
        await turns(10)
    assert client.transport.paused == 0
    assert sorted(_ids(client)) == [2, 3, 4, 5]


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
    client.send(_publish(2))
    await turns()
    ((error),) = [answer["error"] for answer in _answers(client)]
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
    client.send(_publish(2), _publish(3))
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
        client.send(_publish(2, data=b"[" * 300 + b"]" * 300))
        await turns()
    assert client.close_code == 0
    assert _ids(client) == [2]
    assert caplog.records == []


# What goes out


@virtual_time
async def test_publications_follow_the_answer_to_subscribe() -> None:
    """The client never hears of a channel before it knows that it has it."""
    world = World()
    client = world.client()
    client.send(_subscribe(2))
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
    client.send(_subscribe(2))
    await turns()
    client.session.unsubscribed("log:a")
    push = _answers(client)[-1]["push"]
    assert push == {"channel": "log:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    assert client.session.subscriptions == {}


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
    client.send(_subscribe(2))
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


# The end


@virtual_time
async def test_close_sends_what_is_pending_first() -> None:
    """An answer that was ready is not lost; then the close, then nothing."""
    world = World()
    client = world.client()
    client.send(_subscribe(2))
    await turns()
    client.session.outbox.flush()
    client.send(b'{"id":3,"ping":{}}')
    client.session.close(SHUTDOWN)
    assert _ids(client) == [2, 3]
    client.session.send(b"late")
    world.hub_world.deliver("log:a", 11)
    client.send(b'{"id":4,"ping":{}}')
    await turns()
    assert _ids(client) == [2, 3]
    assert [d.code for d in client.transport.closed] == [3001]


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
    client.send(_subscribe(2))
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
    client.send(_subscribe(2), _publish(3))
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


@virtual_time
async def test_a_window_serves_a_second_subscriber() -> None:
    """Nothing is read, nothing is waited for: the answer comes in the same turn."""
    world = World()
    first, second = world.client(), world.client()
    first.send(_subscribe(2))
    await turns()
    world.hub.deliver("log:a", [publication(11)], (11, 0))
    world.hub.flush()
    second.send(
        b'{"id":2,"subscribe":{"channel":"log:a","recover":true,"epoch":"epoch-1","offset":%d}}' % (10 << 12)
    )
    result = _answers(second)[0]["subscribe"]
    assert result["recovered"] is True
    assert [p["offset"] for p in result["publications"]] == [11 << 12]
    assert world.history.calls == []
