"""What was said: pages of messages as they are now, and the state of a room."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from service.chat.room import Author, Room, Rooms
from service.errors import CommandFailed, UndeliverableEntry
from service.streams import entries
from service.streams.commands import Commands
from service.streams.entries import DATA, RawEntry
from service.streams.link import Command
from service.streams.position import (
    ZERO,
    StreamId,
    check_range,
    format_id,
    is_complete,
    parse_id,
    parse_state,
)

#: A message as clients get it.
Said = dict[str, Any]

#: Entries that one page looks at. Where so many are events, a page has fewer messages than were asked for.
MAX_SCAN = 2000

#: Entries that are read at once at most: about a millisecond of this process.
MAX_READ = 250

#: Bytes of data in one page, about; a client must be able to take it in. One message is given in any case.
PAGE_BYTES = 262_144

#: What events begin with, and messages.
_EVENT, _MESSAGE = b'{"type":"', b'{"type":"message"'


class Page(NamedTuple):
    """Messages, as asked for: newest first, or oldest first.

    Args:
        next: where the next page begins; "": there is none. A page may be short, even empty, before the end.
        limited: something between the position and the page is no longer there.
    """

    messages: list[Said]
    next: str
    limited: bool


def decode(raw: RawEntry, room: Room, max_bytes: int) -> Said | None:
    """The message of an entry as it was first said; None where it is none, but an event.

    lua/message.lua tells the same in Lua.
    """
    entry_id, fields = raw
    if fields[0] == DATA and fields[1].startswith(_EVENT) and not fields[1].startswith(_MESSAGE):
        return None  # without a look inside: a room may have many more events than messages
    try:
        publication = entries.decode(parse_id(entry_id), fields, room.namespace, max_bytes)
    except UndeliverableEntry:
        return None
    found: Said = orjson.loads(publication.json)
    data = found["data"]
    if not isinstance(data, dict) or data.get("type", "message") != "message":
        return None
    said: Said = {"id": found["tags"]["id"], "offset": found["offset"], "time": found["time"]}
    author = found.get("info", data).get("user")
    said["user"] = author if isinstance(author, str) else ""
    if "info" in found:
        said["info"] = found["info"]
    said["data"] = data
    return said


class History:
    """Reads rooms.

    Args:
        max_bytes: largest payload that is delivered.
    """

    def __init__(self, commands: Commands, rooms: Rooms, max_bytes: int) -> None:
        self._commands = commands
        self._rooms = rooms
        self._max_bytes = max_bytes

    async def backward(self, room: Room, author: Author, limit: int, before: str) -> Page:
        """The messages before one, newest first.

        Args:
            before: an id; "": the newest.

        Raises:
            ReplyError: 103 banned; 108 ids too large.
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._rooms.admit(room, author)
        cursor = parse_id(before.encode()) if before else None
        if cursor == ZERO:  # Redis takes no range that ends before it
            return Page([], "", limited=False)
        return await self._page(room, cursor, limit, reverse=True)

    async def forward(self, room: Room, author: Author, limit: int, after: str) -> Page:
        """The messages after one, oldest first.

        Args:
            after: an id; "0-0": from the oldest there is.

        Raises:
            ReplyError: 103 banned; 108 ids too large.
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        await self._rooms.admit(room, author)
        position = parse_id(after.encode())
        page = await self._page(room, position, limit, reverse=False)
        # Looked at after the entries: what is trimmed in between must show as a gap.
        limited = position != ZERO and (
            position[0] < self._oldest(room) or not await self._holds(room, position)
        )
        return page._replace(limited=limited)

    async def _holds(self, room: Room, position: StreamId) -> bool:
        """Whether all that came after a position can still be read."""
        stream, at = self._rooms.stream(room), format_id(position)
        info, entry = await self._commands.transaction(
            [("XINFO", "STREAM", stream), ("XRANGE", stream, at, at)]
        )
        if isinstance(entry, CommandFailed):
            raise entry
        return is_complete(position, parse_state(info), present=bool(entry))

    async def _page(self, room: Room, cursor: StreamId | None, limit: int, *, reverse: bool) -> Page:
        found: list[Said] = []
        scanned, count = 0, limit
        more = True
        while more and len(found) < limit and scanned < MAX_SCAN:
            count = min(count, MAX_SCAN - scanned)
            raw: list[RawEntry] = await self._commands.execute(*self._range(room, cursor, count, reverse))
            more = len(raw) == count
            for at, entry in enumerate(raw, 1):
                scanned += 1
                cursor = parse_id(entry[0])
                check_range(cursor)
                said = decode(entry, room, self._max_bytes)
                if said is not None:
                    found.append(said)
                    if len(found) == limit:
                        more = more or at < len(raw)
                        break
            count = min(2 * count, MAX_READ)
        await self._bring_up_to_date(room, found)
        if len(fitting := _fitting(found)) < len(found):
            return Page(fitting, fitting[-1]["id"], limited=False)
        following = format_id(cursor).decode() if more and cursor is not None else ""
        return Page(found, following, limited=False)

    def _range(self, room: Room, cursor: StreamId | None, count: int, reverse: bool) -> Command:
        stream, oldest = self._rooms.stream(room), self._oldest(room)
        if reverse:
            newest = "+" if cursor is None else b"(" + format_id(cursor)
            return ("XREVRANGE", stream, newest, oldest, "COUNT", count)
        start = oldest if cursor is None or cursor[0] < oldest else b"(" + format_id(cursor)
        return ("XRANGE", stream, start, "+", "COUNT", count)

    def _oldest(self, room: Room) -> int:
        """The ms from which on messages are shown. Streams hold older ones until they are trimmed, but what
        stands beside those may be gone: they would be shown as they were before they were edited.
        """
        ttl = room.namespace.history_ttl
        return self._rooms.now - ttl * 1000 if ttl else 0

    async def _bring_up_to_date(self, room: Room, messages: list[Said]) -> None:
        """Apply edits, add reactions, mark what is pinned."""
        if not messages:
            return
        commands: list[Command] = [("HKEYS", self._rooms.key("pins", room))]
        for said in messages:
            overlay, counts, *_ = self._rooms.message_keys(room, said["id"])
            commands.append(("HMGET", overlay, "content", "by", "edits"))
            commands.append(("HGETALL", counts))
        pins, *rest = await self._commands.execute_all(commands)
        for said, (content, by, edits), counts in zip(messages, rest[::2], rest[1::2], strict=True):
            if edits is not None:
                data = {name: value for name, value in said["data"].items() if name not in ("text", "body")}
                said["data"] = data | orjson.loads(content)
                said["edited"] = parse_id(edits.split()[-1])[0]
                said["edited_by"] = by.decode()
            if counts:
                said["reactions"] = {key.decode(): int(count) for key, count in counts.items()}
            if said["id"].encode() in pins:
                said["pinned"] = True

    async def room(self, room: Room, author: Author) -> dict[str, Any]:
        """What a room is called, how fast it is, what is pinned, and what the caller is in it.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        title, topic, slow = await self._commands.execute(
            "HMGET", self._rooms.key("room", room), "title", "topic", "slow"
        )
        standing = await self._rooms.standing(room, author.user)
        role = "owner" if author.moderates else standing.role
        result: dict[str, Any] = {"slow_seconds": int(slow or 0), "role": role}
        found = {
            "title": None if title is None else title.decode(),
            "topic": None if topic is None else topic.decode(),
            "banned_until": standing.banned_until,
            "muted_until": standing.muted_until,
        }
        result.update((name, value) for name, value in found.items() if value)
        result["pins"] = [] if standing.banned_until and not author.moderates else await self.pins(room)
        return result

    async def pins(self, room: Room) -> list[Said]:
        """The pinned messages, oldest first; of many large ones the newest.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """
        copies: dict[bytes, bytes] = await self._commands.execute("HGETALL", self._rooms.key("pins", room))
        found = [said for raw in pinned(copies) if (said := decode(raw, room, self._max_bytes)) is not None]
        await self._bring_up_to_date(room, found)
        return _fitting(found[::-1])[::-1]


def pinned(copies: dict[bytes, bytes]) -> Iterable[RawEntry]:
    """The entries of pinned messages, as they were when they were pinned, oldest first."""
    for entry_id in sorted(copies, key=parse_id):
        try:
            fields = orjson.loads(copies[entry_id])
        except ValueError:  # a foreign entry that is not UTF-8: nobody was ever given it
            continue
        yield entry_id, [field.encode() for field in fields]


def _fitting(messages: list[Said]) -> list[Said]:
    """As many messages from the first on as a client can take in."""
    left = PAGE_BYTES
    for at, said in enumerate(messages):
        left -= len(orjson.dumps(said["data"]))
        if left < 0:
            return messages[: max(at, 1)]
    return messages
