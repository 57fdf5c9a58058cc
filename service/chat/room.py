"""What all commands of a room share: who acts, the room's keys, its scripts and their refusals."""

from __future__ import annotations

import hashlib
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

#: Seconds that what stands beside a message outlives its last change, in namespaces without history_ttl.
MESSAGE_TTL = 90 * 86_400

#: Of what stands beside one message, in the order that message.lua has them.
_MESSAGE_KINDS = ("message", "counts", "reactors", "reactions")

#: What scripts answer, by their first word, where the second is the text.
_REFUSALS: Mapping[bytes, Callable[[str], ReplyError]] = {
    b"denied": permission_denied,
    b"absent": not_found,
    b"full": limit_exceeded,
}


def barred(how: str, until: int, now: float) -> ReplyError:
    """Error 103 for somebody who is kept out, with the end of it.

    Args:
        how: banned or muted.
        until: ms at which it ends; FOREVER: it does not.
        now: ms.
    """
    if until == FOREVER:
        return permission_denied(f"{how} for ever")
    when = datetime.fromtimestamp(until / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return permission_denied(f"{how} until {when}", max(until - now, 1) / 1000)


def script(*names: str) -> Script:
    """A script of a room: room.lua and the files named, as one."""
    text = b"\n".join(Script.of(__package__, f"lua/{name}.lua").text for name in ("room", *names))
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


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

    @property
    def above(self) -> str:
        """What scripts are told of `moderates`."""
        return "1" if self.moderates else ""


class Room(NamedTuple):
    """A channel with chat, and its namespace."""

    channel: str
    namespace: Namespace

    @property
    def message_ttl(self) -> int:
        """Seconds that what stands beside a message outlives its last change."""
        return self.namespace.history_ttl or MESSAGE_TTL


class Standing(NamedTuple):
    """What a user is in a room: `owner`, `moderator` or `member`; ms by Redis' clock, 0: not."""

    role: str
    banned_until: int
    muted_until: int


class Rooms:
    """Names the keys of rooms and runs their scripts."""

    __slots__ = ("_commands", "_keys")

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    @property
    def now(self) -> int:
        """Redis' clock, in ms."""
        return int((time.time() + self._commands.clock_offset) * 1000)

    # Keys

    def stream(self, room: Room) -> str:
        """The stream of a room."""
        return self._keys.stream(room.channel)

    def key(self, kind: str, room: Room) -> str:
        """A key of a room."""
        return self._keys.beside("chat-" + kind, room.channel)

    def key_of(self, kind: str, room: Room, name: str) -> str:
        """A key of something in a room; a name may hold anything, so it stands behind the hash tag."""
        return f"{self._keys.beside('chat-' + kind, room.channel)}:{name}"

    def message_keys(self, room: Room, message_id: str) -> list[str]:
        """The keys of what stands beside one message."""
        return [self.key_of(kind, room, message_id) for kind in _MESSAGE_KINDS]

    # Scripts

    async def act(
        self,
        script: Script,
        room: Room,
        author: Author,
        arguments: Sequence[Argument],
        keys: Sequence[str] = (),
    ) -> list[Any]:
        """Run a script made by `script`; its own keys and arguments come after those of room.lua.

        Raises:
            as `call`.
        """
        common = [
            self.stream(room),
            *[self.key(kind, room) for kind in ("room", "bans", "mutes", "audit", "pins")],
            self._keys.live(room.channel),
        ]
        who = (author.user, author.info, author.above, room.namespace.history_size)
        return await self.call(script, [*common, *keys], [*who, *arguments])

    async def act_on(
        self, script: Script, room: Room, author: Author, message_id: str, arguments: Sequence[Argument]
    ) -> list[Any]:
        """Run a script that has message.lua in it, likewise.

        Raises:
            as `call`.
        """
        keys = self.message_keys(room, message_id)
        return await self.act(script, room, author, [message_id, room.message_ttl, *arguments], keys)

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """What a script answers, if it does not refuse: a list that begins with a word.

        Raises:
            ReplyError: the script refused (103, 106, 111, 404).
            Unavailable, CommandFailed: as `Commands.script`.
        """
        reply: list[Any] = await self._commands.script(script, keys, arguments)
        word = reply[0]
        if word == b"ok":
            return reply
        if word == b"slow":
            raise too_many_requests(reply[1] / 1000, "slow mode")
        if word in (b"banned", b"muted"):
            raise barred(word.decode(), reply[1], self.now)
        if refusal := _REFUSALS.get(word):
            raise refusal(reply[1].decode())
        return reply

    # Reading

    async def standing(self, room: Room, user: str) -> Standing:
        """What a user is in a room now.

        Raises:
            Unavailable, CommandFailed: as `Commands.transaction`.
        """
        role, *scores = await self._commands.transaction(
            [
                ("HGET", self.key("room", room), f"role:{user}"),
                ("ZSCORE", self.key("bans", room), user),
                ("ZSCORE", self.key("mutes", room), user),
            ]
        )
        now = self.now
        banned, muted = (int(score) if score is not None and score > now else 0 for score in scores)
        return Standing("member" if role is None else role.decode(), banned, muted)

    async def admit(self, room: Room, author: Author) -> None:
        """Refuse the banned.

        Raises:
            ReplyError: 103.
            Unavailable, CommandFailed: as `Commands.transaction`.
        """
        if author.user and not author.moderates:
            self._refuse_banned(await self.standing(room, author.user))

    async def admit_moderator(self, room: Room, author: Author) -> None:
        """Refuse all but moderators and owners.

        Raises:
            ReplyError: 103.
            Unavailable, CommandFailed: as `Commands.transaction`.
        """
        if not author.moderates:
            standing = await self.standing(room, author.user)
            self._refuse_banned(standing)
            if standing.role == "member":
                raise permission_denied("only moderators of the room may do this")

    def _refuse_banned(self, standing: Standing) -> None:
        if standing.banned_until:
            raise barred("banned", standing.banned_until, self.now)
