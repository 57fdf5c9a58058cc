"""client: what it sends and what it makes of the answers, against a server that plays a script."""

from __future__ import annotations

import asyncio

import pytest

from service.client import Client
from service.client.events import (
    ClientError,
    Connected,
    Connecting,
    Position,
    Publication,
    Refused,
    Subscribed,
)
from tests.unit.fakes.stage import Events, Json, Peer, Stage


async def test_connect_sends_what_it_was_given(stage: Stage) -> None:
    """Token, data and name go out with connect, and nothing empty does."""
    commands: list[Json] = []

    async def scene(peer: Peer) -> None:
        commands.append(await peer.connect(client="c1"))
        await peer.socket.wait_closed()

    stage.play(scene, scene)
    events = Events()
    async with Client(stage.url, token="t", data={"a": 1}, name="n", on_event=events):
        assert events.seen == [Connected("c1")]
    async with Client(stage.url):
        pass
    assert commands[0] == {"id": 1, "connect": {"token": "t", "data": {"a": 1}, "name": "n"}}
    assert commands[1] == {"id": 1, "connect": {"name": "streamgate-python"}}


async def test_publications_arrive_in_order(stage: Stage) -> None:
    """The result's publications come first, then pushes; several objects may share a frame."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.subscribe(
            recoverable=True,
            epoch="e",
            offset=9,
            publications=[{"data": 1, "offset": 9, "tags": {"snapshot": "true"}}],
        )
        await peer.send(
            {"push": {"channel": "a:b", "pub": {"data": {"x": 2}, "offset": 20, "info": {"user": "u"}}}},
            {"push": {"channel": "other", "pub": {"data": 0, "offset": 1}}},
            {"push": {"channel": "a:b", "pub": {"data": 3, "offset": 30}}},
        )
        await peer.socket.wait_closed()

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events) as client:
        subscribed = await client.subscribe("a:b")
        assert subscribed == Subscribed("a:b", Position(9, "e"), was_recovering=False, recovered=False)
        last: Publication = await events.wait(Publication, 3)
    publications = events.of(Publication)
    assert [(pub.data, pub.offset) for pub in publications] == [(1, 9), ({"x": 2}, 20), (3, 30)]
    assert publications[0].tags == {"snapshot": "true"}
    assert publications[1].info == {"user": "u"}
    assert last.raw == {"data": 3, "offset": 30}


@pytest.mark.parametrize(("pong", "answer"), [(True, {}), (False, {"rpc": {"method": "m", "data": None}})])
async def test_pings_are_answered_where_asked_for(stage: Stage, pong: bool, answer: Json) -> None:
    """`{}` is answered by `{}`, unless the server did not ask for pongs."""
    received = asyncio.get_running_loop().create_future()

    async def scene(peer: Peer) -> None:
        await peer.connect(pong=pong)
        await peer.send({})
        first = await peer.receive()
        first.pop("id", None)
        received.set_result(first)
        await peer.socket.wait_closed()

    stage.play(scene)
    async with Client(stage.url) as client:
        if not pong:
            call = asyncio.create_task(client.rpc("m"))
        assert await received == answer
        if not pong:
            call.cancel()


async def test_refusals(stage: Stage) -> None:
    """A refused subscription is gone; a temporary refusal is tried again."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.refuse(103, "permission denied")
        await peer.refuse(100, "internal server error", temporary=True)
        await peer.subscribe()
        await peer.socket.wait_closed()

    stage.play(scene)
    async with Client(stage.url) as client:
        with pytest.raises(Refused, match=r"permission denied \(error 103\)"):
            await client.subscribe("a:b")
        assert (await client.subscribe("a:b")).position is None


async def test_calls(stage: Stage) -> None:
    """publish, history and rpc send their requests and return their results."""
    commands: list[Json] = []

    async def scene(peer: Peer) -> None:
        await peer.connect()
        results: tuple[Json, ...] = (
            {"publish": {}},
            {"history": {"publications": [{"data": 1, "offset": 3}], "offset": 4, "epoch": "e"}},
        )
        for result in results:
            commands.append(await peer.receive())
            await peer.send({"id": commands[-1]["id"], **result})
        commands.append(await peer.refuse(108, "not available"))
        await peer.socket.wait_closed()

    stage.play(scene)
    async with Client(stage.url) as client:
        await client.publish("a:b", {"x": 1})
        publications, position = await client.history("a:b", limit=5, since=Position(2, "e"), reverse=True)
        with pytest.raises(Refused, match="not available"):
            await client.rpc("m", 1)
    assert [pub.offset for pub in publications] == [3]
    assert position == Position(4, "e")
    assert [{key: value for key, value in command.items() if key != "id"} for command in commands] == [
        {"publish": {"channel": "a:b", "data": {"x": 1}}},
        {"history": {"channel": "a:b", "limit": 5, "since": {"offset": 2, "epoch": "e"}, "reverse": True}},
        {"rpc": {"method": "m", "data": 1}},
    ]


async def test_unsubscribe(stage: Stage) -> None:
    """After unsubscribe nothing of the channel arrives any more."""

    async def scene(peer: Peer) -> None:
        await peer.connect()
        await peer.subscribe()
        command = await peer.receive()
        assert command["unsubscribe"] == {"channel": "a:b"}
        await peer.send(
            {"push": {"channel": "a:b", "pub": {"data": 1}}}, {"id": command["id"], "unsubscribe": {}}, {}
        )
        assert await peer.receive() == {}
        await peer.socket.close(3000)

    stage.play(scene)
    events = Events()
    async with Client(stage.url, on_event=events) as client:
        await client.subscribe("a:b")
        client.unsubscribe("a:b")
        client.unsubscribe("never:was")
        await events.wait(Connecting)
    assert events.of(Publication) == []


@pytest.mark.parametrize(
    ("frame", "error"),
    [("nonsense", "not JSON"), ("[1]", "not a JSON object")],
)
async def test_another_protocol_is_an_error(stage: Stage, frame: str, error: str) -> None:
    """A server that speaks something else is not asked again."""

    async def scene(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.send(frame)
        await peer.socket.wait_closed()

    stage.play(scene)
    with pytest.raises(ClientError, match=f"does not speak this protocol: {error}"):
        async with Client(stage.url):
            pass
