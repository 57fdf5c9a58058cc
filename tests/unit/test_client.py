"""client: the protocol's rules, against a server that plays a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.server import Server, ServerConnection, serve

from service.client import Client
from service.client import client as client_module
from service.client.events import (
    ClientError,
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

Json = dict[str, Any]
Scene = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self._lines: list[Json] = []

    async def receive(self) -> Json:
        """The next command."""
        while not self._lines:
            self._lines = [json.loads(line) for line in (await self.socket.recv()).splitlines()]
        return self._lines.pop(0)

    async def send(self, *messages: Json) -> None:
        """Messages in one frame."""
        await self.socket.send("\n".join(json.dumps(message) for message in messages))

    async def connect(self, **result: Any) -> Json:
        """Take the connect command and accept it; returns the command."""
        command = await self.receive()
        await self.send({"id": command["id"], "connect": {"client": "c", "ping": 25, "pong": True} | result})
        return command

    async def subscribe(self, **result: Any) -> Json:
        """Take a subscribe command and accept it; returns its request."""
        command = await self.receive()
        await self.send({"id": command["id"], "subscribe": result})
        request: Json = command["subscribe"]
        return request

    async def refuse(self, code: int, message: str, *, temporary: bool = False) -> Json:
        """Take a command and refuse it."""
        command = await self.receive()
        error = {"code": code, "message": message} | ({"temporary": True} if temporary else {})
        await self.send({"id": command["id"], "error": error})
        return command


class Stage:
    """A server that plays one scene for each connection, in order."""

    def __init__(self) -> None:
        self._scenes: list[Scene] = []
        self.url = ""
        self.failures: list[BaseException] = []

    def play(self, *scenes: Scene) -> None:
        """What will happen."""
        self._scenes = list(scenes)

    async def __call__(self, socket: ServerConnection) -> None:
        """One connection."""
        scene = self._scenes.pop(0) if self._scenes else _idle
        try:
            await scene(Peer(socket))
        except AssertionError as exc:
            self.failures.append(exc)


async def _idle(peer: Peer) -> None:
    await peer.connect()
    await peer.socket.wait_closed()


@pytest_asyncio.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """The stage; reconnects come at once."""
    monkeypatch.setattr(client_module, "MIN_DELAY_SECONDS", 0.001)
    stage = Stage()
    server: Server
    async with serve(stage, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        stage.url = f"ws://127.0.0.1:{port}"
        yield stage
    assert stage.failures == []


class Events:
    """Keeps events, and waits for the n-th of a kind."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event) -> None:
        """Take one."""
        self.seen.append(event)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, kind: type[Any], number: int = 1) -> Any:
        """The n-th event of that kind."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.of(kind)) >= number)
        return self.of(kind)[number - 1]

    def of(self, kind: type[Any]) -> list[Any]:
        """All events of that kind."""
        return [event for event in self.seen if isinstance(event, kind)]


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
