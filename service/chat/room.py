"""What all commands of a room share: who acts, the room's keys, its scripts and their refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from service.channels import Namespace
from service.errors import (
    ReplyError,
    limit_exceeded,
    not_found,
    permission_denied,
    too_many_requests,
)
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.link import Argument
from service.streams.lua import Script

#: The ms that stand for "never ends": exact in Lua, in scores and in JavaScript.
FOREVER = (1 << 53) - 1

#: Seconds that what is kept beside a message outlives its last change, in namespaces without history_ttl.
MESSAGE_TTL = 90 * 86_400

#: What scripts answer, by their first word, where the second is the text.
_REFUSALS: Mapping[bytes, Callable[[str], ReplyError]] = {
    b"denied": permission_denied,
    b"absent": not_found,
    b"full": limit_exceeded,
}


class Author(NamedTuple):
    """Who acts.

    Args:
        user: the application's id; "" for anybody.
        info: JSON object that the room sees beside what was done: `user`, `client`, `conn_info`.
        moderates: may do all that the room's owner may, by capability or as the application itself.
    """

    user: str
    info: bytes
    moderates: bool = False

    @property
    def key(self) -> str:
        """Names the author in keys: the user, or the connection of somebody anonymous."""
        if self.user:
            return "u:" + self.user
        return "c:" + str(orjson.loads(self.info).get("client", ""))

    def signed_in(self, what: str) -> None:
        """Refuse the anonymous.

        Raises:
            ReplyError: 103.
        """
        if not self.user:
            raise permission_denied(f"sign in to {what}")


class Room(NamedTuple):
    """A channel with chat, and its namespace."""

    channel: str
    namespace: Namespace

    @property
    def message_ttl(self) -> int:
        """Seconds that what is kept beside a message outlives its last change."""
        return self.namespace.history_ttl or MESSAGE_TTL


class Rooms:
    """Names the keys of rooms and runs their scripts."""

    __slots__ = ("_commands", "_keys")

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    @property
    def now(self) -> float:
        """Redis' clock, Unix seconds."""
        return time.time() + self._commands.clock_offset

    def stream(self, room: Room) -> str:
        """The stream of a room."""
        return self._keys.stream(room.channel)

    def key(self, kind: str, room: Room) -> str:
        """A key of a room."""
        return self._keys.beside("chat-" + kind, room.channel)

    def key_of(self, kind: str, room: Room, name: str) -> str:
        """A key of something in a room; a name may hold anything, so it stands behind the hash tag."""
        return f"{self._keys.beside('chat-' + kind, room.channel)}:{name}"

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """What a script answers, if it does not refuse: a list that begins with a word.

        Raises:
            ReplyError: the script refused.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        reply: list[Any] = await self._commands.script(script, keys, arguments)
        word = reply[0]
        if word == b"ok":
            return reply
        if word == b"slow":
            raise too_many_requests(reply[1] / 1000, "slow mode: wait before the next message")
        if word in (b"banned", b"muted"):
            raise self.barred(word.decode(), reply[1])
        if refusal := _REFUSALS.get(word):
            raise refusal(reply[1].decode())
        return reply

    def barred(self, how: str, until: int) -> ReplyError:
        """103 for somebody who is "banned" or "muted", until some ms."""
        if until == FOREVER:
            return permission_denied(f"{how} for ever")
        when = datetime.fromtimestamp(until / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return permission_denied(f"{how} until {when}", max(until / 1000 - self.now, 0.001))
