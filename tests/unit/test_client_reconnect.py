"""client: connections that end: which it makes anew, from which position, and what is told."""

from __future__ import annotations

import asyncio

import pytest

from service.client import Client
from service.client import client as client_module
from service.client.events import (
    Connected,
    Connecting,
    ConnectionFailed,
    Disconnected,
    Event,
    Position,
    Publication,
    Refused,
    Subscribed,
    Unsubscribed,
)
from tests.unit.fakes.stage import Events, Json, Peer, Stage


async def test_it_resumes_from_its_position(stage: Stage) -> None:
    """After a cut it connects again and subscribes from the last offset it has seen."""
    requests: list[Json] = []

    async def first(peer: Peer) -> None:
        await peer.connect()
        requests.append(await peer.subscribe(recoverable=True, epoch="e", offset=5))
        await peer.send({"push": {"channel": "a:b", "pub": {"data": 1, "offset": 8}}})
        await peer.socket.close(3001, "shutdown")

    async def second(peer: Peer) -> None:
        await peer.connect()
        missed = [{"data": 2, "offset": 9}]
        requests.append(
            await peer.subscribe(
                recoverable=True,
                epoch="e",
                offset=8,
                was_recovering=True,
                recovered=True,
                publications=missed,
            )
        )
        await peer.socket.close(1011)

    async def third(peer: Peer) -> None:
        await peer.connect()
        requests.append(await peer.subscribe(recoverable=True, epoch="f", offset=50, was_recovering=True))
        await peer.socket.wait_closed()

    stage.play(first, second, third)
    events = Events()
    async with Client(stage.url, on_event=events) as client:
        await client.subscribe("a:b")
        gap = await events.wait(Subscribed, 3)
    assert requests == [
        {"channel": "a:b"},
        {"channel": "a:b", "recover": True, "offset": 8, "epoch": "e"},
        {"channel": "a:b", "recover": True, "offset": 9, "epoch": "e"},
    ]
    assert [pub.data for pub in events.of(Publication)] == [1, 2]
    assert gap == Subscribed("a:b", Position(50, "f"), was_recovering=True, recovered=False)
    lost = events.of(Connecting)[0]
    assert (lost.code, lost.reason) == (3001, "shutdown")


async def test_a_position_can_be_given(stage: Stage) -> None:
    """subscribe goes on where somebody else stopped."""
    requests: list[Json] = []

    async def scene(peer: Peer) -> None:
        await peer.connect()
        requests.append(
            await peer.subscribe(recoverable=True, epoch="e", was_recovering=True, recovered=True)
        )
        await peer.socket.wait_closed()

    stage.play(scene)
    async with Client(stage.url) as client:
        assert (await client.subscribe("a:b", Position(0, "e"))).recovered
        with pytest.raises(ValueError, match="subscribed to a:b already"):
            await client.subscribe("a:b")
    assert requests == [{"channel": "a:b", "recover": True, "epoch": "e"}]


@pytest.mark.parametrize("code", [3500, 3999, 4500, 4999])
async def test_terminal_codes_end_the_session(stage: Stage, code: int) -> None:
    """Codes 3500-3999 and 4500-4999 mean: do not come back."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.socket.close(code, "enough")

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events) as client:
        with pytest.raises(Disconnected, match=rf"enough \({code}\)"):
            await client.wait_closed()
    assert events.of(Connecting) == []


@pytest.mark.parametrize("code", [1000, 1001, 3000, 3499, 4000, 4499])
async def test_other_codes_reconnect(stage: Stage, code: int) -> None:
    """All other codes mean: try again."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.socket.close(code)

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events):
        await events.wait(Connected, 2)
    assert [event.code for event in events.of(Connecting)] == [code]


async def test_unsubscribe_pushes(stage: Stage) -> None:
    """From 2500 on the client subscribes again with its position; below, the channel is gone."""
    requests: list[Json] = []

    async def scene(peer: Peer) -> None:
        await peer.connect()
        requests.append(await peer.subscribe(recoverable=True, epoch="e", offset=5))
        await peer.send({"push": {"channel": "a:b", "unsubscribe": {"code": 2500, "reason": "gap"}}})
        requests.append(await peer.subscribe(recoverable=True, epoch="e", offset=7, was_recovering=True))
        await peer.send({"push": {"channel": "a:b", "unsubscribe": {"code": 2000, "reason": "bye"}}})
        await peer.socket.close(3000)

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events) as client:
        await client.subscribe("a:b")
        await events.wait(Connected, 2)
    assert requests[1] == {"channel": "a:b", "recover": True, "offset": 5, "epoch": "e"}
    assert events.of(Unsubscribed) == [Unsubscribed("a:b", 2500, "gap"), Unsubscribed("a:b", 2000, "bye")]


async def test_a_lost_connection_fails_what_waits(stage: Stage) -> None:
    """A call without an answer fails at once when the connection ends."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.receive()
        peer.socket.transport.abort()

    stage.play(scene)
    async with Client(stage.url) as client:
        with pytest.raises(ConnectionFailed, match="the connection was lost"):
            await client.publish("a:b", 1)


async def test_a_silent_server_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ping for longer than agreed the client connects again."""
    monkeypatch.setattr(client_module, "PING_GRACE_SECONDS", -0.9)

    async def scene(peer: Peer) -> None:
        await peer.connect(ping=1)
        await peer.socket.wait_closed()

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events):
        await events.wait(Connected, 2)
    assert events.of(Connecting)[0].reason == "the server was silent for too long"


async def test_the_first_connect_fails_aloud(stage: Stage) -> None:
    """Whoever enters the client is told why there is no session."""

    async def refused(peer: Peer) -> None:
        await peer.refuse(101, "unauthorized")
        await peer.socket.wait_closed()

    async def closed(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.close(3001, "shutdown")

    stage.play(refused, closed)
    with pytest.raises(Refused, match="unauthorized"):
        async with Client(stage.url):
            pass
    with pytest.raises(ConnectionFailed, match="shutdown"):
        async with Client(stage.url):
            pass


async def test_an_error_of_the_callback_is_not_a_lost_connection(stage: Stage) -> None:
    """What the callback raises ends the session and reaches whoever waits for its end."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.subscribe(publications=[{"data": 1}])
        await peer.socket.wait_closed()

    def callback(event: Event) -> None:
        if isinstance(event, Publication):
            raise BrokenPipeError("nobody reads")

    stage.play(scene)
    async with Client(stage.url, on_event=callback) as client:
        subscribing = asyncio.create_task(client.subscribe("a:b"))
        with pytest.raises(BrokenPipeError):
            await client.wait_closed()
        with pytest.raises(BrokenPipeError):
            await subscribing
