"""Moderation: roles, mutes, bans, purges, and the record of it all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import orjson

from service.chat.history import decode, pinned
from service.chat.room import FOREVER, Author, Room, Rooms, script
from service.streams.commands import Commands
from service.streams.entries import RawEntry
from service.streams.keys import Keys
from service.streams.link import Argument
from service.streams.position import parse_id

#: Entries that a purge looks at in one step, and messages that it deletes in one.
PURGE_SCAN, PURGE_SLICE = 250, 50

Sanction = Literal["mute", "unmute", "ban", "unban"]

_SET_ROOM, _SET_ROLE, _SANCTION, _PURGE = map(script, ("set_room", "set_role", "sanction", "purge"))


class Control(Protocol):
    """Tells all nodes."""

    async def send(self, command: dict[str, object]) -> None:
        """Have each node carry out a command.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """


class Moderation:
    """What moderators and owners do. Every act is on the room's record, written together with it.

    Args:
        max_bytes: largest payload that is delivered.
        control: how all nodes learn of bans.
    """

    def __init__(
        self, commands: Commands, keys: Keys, rooms: Rooms, max_bytes: int, control: Control
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._rooms = rooms
        self._max_bytes = max_bytes
        self._control = control

    async def set_room(self, room: Room, author: Author, changes: dict[str, str | int]) -> None:
        """Change the room.

        Args:
            changes: any of `title`, `topic` ("": none) and `slow_seconds` (0: none).

        Raises:
            ReplyError: 103 no moderator.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = orjson.dumps({"type": "room", **changes})
        fields: list[str | int] = []
        for name, value in changes.items():
            fields += ("slow" if name == "slow_seconds" else name, value or "")
        await self._rooms.act(_SET_ROOM, room, author, [event, orjson.dumps(changes), *fields])

    async def set_role(self, room: Room, author: Author, user: str, role: str) -> None:
        """Make somebody `owner`, `moderator` or `member`.

        Raises:
            ReplyError: 103 no owner, or the user is one, too.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        await self._rooms.act(_SET_ROLE, room, author, [user, role])

    async def sanction(
        self, room: Room, author: Author, what: Sanction, user: str, seconds: int = 0, reason: str = ""
    ) -> int:
        """Mute or ban somebody, or end that; returns the ms until which it lasts, 0: it has ended.

        Args:
            seconds: how long; 0: for ever.

        Raises:
            ReplyError: 103 no moderator, or the user's role is as high.
            Unavailable, CommandFailed: as `Commands.script`; the nodes may not have been told, which
                doing it again makes up for.
        """
        arguments: list[Argument] = [what, user, seconds * 1000, reason, FOREVER]
        _, until = await self._rooms.act(_SANCTION, room, author, arguments)
        if what in ("ban", "unban"):
            await self._control.send(
                {"command": "ban", "channel": room.channel, "user": user, "until_ms": until}
            )
        return int(until)

    @property
    def now(self) -> int:
        """The clock by which mutes and bans end, in ms."""
        return self._rooms.now

    async def bans(self, channel: str, limit: int = -1) -> dict[str, int]:
        """Who is banned: user to the ms at which it ends, `FOREVER` where it does not; the longest first.

        Args:
            limit: of them; -1: all.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        key = self._keys.beside("chat-bans", channel)
        found = await self._commands.execute(
            "ZREVRANGEBYSCORE", key, "+inf", f"({self.now}", "WITHSCORES", "LIMIT", 0, limit
        )
        return {user.decode(): int(until) for user, until in found}

    async def banned(self, room: Room, author: Author, limit: int) -> dict[str, int]:
        """The same, for moderators.

        Raises:
            ReplyError: 103 no moderator.
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._rooms.admit_moderator(room, author)
        return await self.bans(room.channel, limit)

    async def audit(self, room: Room, author: Author, limit: int, before: str) -> list[dict[str, Any]]:
        """What moderators have done, newest first.

        Args:
            before: the id of an entry; "": the newest.

        Raises:
            ReplyError: 103 no moderator.
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._rooms.admit_moderator(room, author)
        if before == "0-0":  # Redis takes no range that ends before it
            return []
        newest = f"({before}" if before else "+"
        raw = await self._commands.execute(
            "XREVRANGE", self._rooms.key("audit", room), newest, "-", "COUNT", limit
        )
        return [_act(entry_id, fields) for entry_id, fields in raw]

    # Purge

    async def purge(self, room: Room, author: Author, user: str, reason: str) -> int:
        """Delete all messages of a user, in slices; returns how many there were.

        Raises:
            ReplyError: 103 no moderator, or the user's role is as high.
            Unavailable, CommandFailed: as `Commands.script`; some may be deleted already, and doing it
                again deletes the rest.
        """
        # Before anything is read: whether the author may, and the record.
        await self._delete(room, author, user, reason, [])
        copies = await self._commands.execute("HGETALL", self._rooms.key("pins", room))
        deleted = await self._delete_of(room, author, user, reason, list(pinned(copies)))
        stream = self._rooms.stream(room)
        start = "-"
        while True:
            raw: list[RawEntry] = await self._commands.execute(
                "XRANGE", stream, start, "+", "COUNT", PURGE_SCAN
            )
            deleted += await self._delete_of(room, author, user, reason, raw)
            if len(raw) < PURGE_SCAN:
                return deleted
            start = f"({raw[-1][0].decode()}"

    async def _delete_of(
        self, room: Room, author: Author, user: str, reason: str, raw: Sequence[RawEntry]
    ) -> int:
        """Delete the messages of a user among some entries."""
        said = [decode(entry, room, self._max_bytes) for entry in raw]
        ids = [message["id"] for message in said if message is not None and message["user"] == user]
        deleted = 0
        for start in range(0, len(ids), PURGE_SLICE):
            deleted += await self._delete(room, author, user, reason, ids[start : start + PURGE_SLICE])
        return deleted

    async def _delete(self, room: Room, author: Author, user: str, reason: str, ids: list[str]) -> int:
        event = orjson.dumps({"type": "purge", "user": user, "ids": ids})
        keys = [key for message_id in ids for key in self._rooms.message_keys(room, message_id)]
        _, deleted = await self._rooms.act(_PURGE, room, author, [user, reason, event, *ids], keys)
        return int(deleted)


def _act(entry_id: bytes, fields: list[bytes]) -> dict[str, Any]:
    act: dict[str, Any] = {"id": entry_id.decode(), "at": parse_id(entry_id)[0]}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if not value:
            continue
        if name == b"until":
            act["until"] = int(value)
        elif name == b"change":
            act["change"] = orjson.loads(value)
        else:
            act["message" if name == b"id" else name.decode()] = value.decode()
    return act
