"""Chat on a real Redis: nodes, and the people who call their commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
from redis.asyncio import Redis

from service.channels import Namespace
from service.chat.chat import Chat
from service.chat.rpc import METHODS
from service.errors import ReplyError, permission_denied
from service.identity.identity import Action
from service.metrics import Metrics
from service.request import Request
from service.streams.commands import Commands
from service.streams.keys import Keys
from tests.unit.fakes.redis import connected_commands

#: Before every key.
PREFIX = "p:"

CHAT = Namespace(chat=True, history_size=10_000)


async def entries(redis: Redis, channel: str) -> dict[bytes, dict[bytes, bytes]]:
    """What the room's stream holds: fields by id."""
    found = cast(Any, await redis.xrange(PREFIX + channel))
    return dict(found)


async def produce(redis: Redis, channel: str, **fields: str | bytes) -> str:
    """Write an entry as a producer does; returns its id."""
    entry_id = cast(bytes, await redis.xadd(PREFIX + channel, cast(Any, fields)))
    return entry_id.decode()


async def live_events(redis: Redis, channel: str) -> list[dict[str, Any]]:
    """What those in the room were told in passing."""
    found = cast(Any, await redis.xrange(Keys(PREFIX).live(channel)))
    return [orjson.loads(fields[b"data"]) for _, fields in found]


async def keys_beside(redis: Redis, channel: str) -> set[str]:
    """The keys that belong to a room, by what stands around its name; its stream and record are not told."""
    keys = {cast(bytes, key).decode() async for key in redis.scan_iter(f"*{channel}*")}
    named = {key.replace(f"{{{PREFIX}{channel}}}", "").removeprefix("streamgate:") for key in keys}
    return named - {PREFIX + channel, "chat-audit:"}


class Node:
    """Chat as one node has it, with a connection of its own; `told` holds what was sent to all nodes."""

    def __init__(self, commands: Commands, max_bytes: int) -> None:
        self.metrics = Metrics()
        self.commands = commands
        self.told: list[dict[str, object]] = []
        self.chat = Chat(commands, Keys(PREFIX), max_bytes, self, self.metrics)

    async def send(self, command: dict[str, object]) -> None:
        self.told.append(command)

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(f"streamgate_{name}", labels)


@asynccontextmanager
async def chat_node(url: str, max_bytes: int = 65_536) -> AsyncIterator[Node]:
    """A node that is connected to Redis."""
    async with connected_commands(url) as commands:
        yield Node(commands, max_bytes)


class Person:
    """A caller: somebody in one channel, through one node.

    Args:
        client: the connection's id.
        moderates: by capability.
        denied: actions that the namespace keeps from it.
    """

    def __init__(
        self,
        node: Node,
        channel: str,
        user: str,
        *,
        client: str = "",
        namespace: Namespace = CHAT,
        moderates: bool = False,
        denied: frozenset[Action] = frozenset(),
    ) -> None:
        self._node = node
        self._channel = channel
        self.user = user
        self._client = client or f"client of {user}"
        self._namespace = namespace
        self._moderates = moderates
        self._denied = denied

    def info(self, channel: str) -> bytes:
        return orjson.dumps({"user": self.user, "client": self._client})

    def allowed(self, channel: str, action: Action) -> Namespace:
        if action in self._denied:
            raise permission_denied()
        return self._namespace

    def moderates(self, channel: str) -> bool:
        return self._moderates

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command as the wire has it."""
        request = Request({"channel": self._channel, **parameters})
        result = await METHODS[f"chat.{method}"](self._node.chat, self, request)
        written: dict[str, Any] = orjson.loads(orjson.dumps(result))
        return written

    async def refused(self, method: str, **parameters: Any) -> tuple[int, str]:
        """The code and text with which a command is refused."""
        with pytest.raises(ReplyError) as caught:
            await self.call(method, **parameters)
        return caught.value.code, caught.value.message

    async def say(self, text: str) -> str:
        """Send a message; returns its id."""
        found: str = (await self.call("send", text=text))["id"]
        return found
