"""What is over at once: who is typing, and how far somebody has read."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from service.chat.room import Author, Room, Rooms, script
from service.streams.commands import Commands

#: Milliseconds after which clients take for granted that somebody no longer types.
TYPING_MS = 6000

#: Milliseconds within which it is told once that somebody types.
TYPING_PAUSE_MS = 3000

#: Markers in a room up to which others are told how far somebody has read.
TOLD_MARKERS = 200

#: How often others are told of one user's marker, and within how many milliseconds.
TOLD_TIMES, TOLD_MS = 20, 10_000

#: Seconds that the markers of a room outlive the last move.
MARKERS_TTL = 90 * 86_400

_TYPING, _READ = script("typing"), script("read")


class Signals:
    """Writes to the live streams, which nobody can read later, and keeps the newest markers."""

    def __init__(self, commands: Commands, rooms: Rooms) -> None:
        self._commands = commands
        self._rooms = rooms

    async def typing(self, room: Room, author: Author, *, typing: bool) -> None:
        """Tell the room that somebody types, or has stopped to; repeated too soon it tells nobody.

        Raises:
            ReplyError: 103 banned or muted.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = {"type": "typing", "user": author.user, "typing": typing}
        if typing:
            event["expires_ms"] = TYPING_MS
        key = self._rooms.key_of("typing", room, author.key)
        arguments = ["1" if typing else "0", orjson.dumps(event), TYPING_PAUSE_MS]
        await self._rooms.act(_TYPING, room, author, arguments, [key])

    async def read(self, room: Room, author: Author, message_id: str) -> str:
        """Move the user's marker forward; returns where it is now.

        Raises:
            ReplyError: 103 banned, 404 nothing is as new.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = orjson.dumps({"type": "read", "user": author.user, "id": message_id})
        _, marker = await self._rooms.act(
            _READ,
            room,
            author,
            [message_id, event, MARKERS_TTL, TOLD_MARKERS, TOLD_TIMES, TOLD_MS],
            [self._rooms.key("markers", room), self._rooms.key_of("reading", room, author.key)],
        )
        return str(marker, "ascii")

    async def markers(self, room: Room, users: Sequence[str]) -> dict[str, str]:
        """How far users have read; who has read nothing is left out.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        found = await self._commands.execute("HMGET", self._rooms.key("markers", room), *users)
        return {
            user: marker.decode() for user, marker in zip(users, found, strict=True) if marker is not None
        }
