"""A server that plays a script to one of our clients, and the events the client makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection

from service.client.events import Event

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
