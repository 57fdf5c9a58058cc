"""Messages: sent, edited, deleted, reacted to, pinned."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import orjson

from service import channels
from service.chat.parameters import Message
from service.chat.room import Author, Room, Rooms, script
from service.errors import Unavailable, limit_exceeded
from service.metrics import Metrics
from service.streams.again import again
from service.streams.commands import Commands
from service.streams.link import Argument
from service.streams.lua import Script
from service.streams.position import StreamId, parse_id, to_offset

#: Milliseconds that a nonce is remembered.
NONCE_MS = 300_000

#: Edits of one message: their events must go with it.
MAX_EDITS = 50

#: Different reactions to one message.
MAX_REACTIONS = 20

#: Milliseconds after which the event of a reaction gives way to a later one of the same message: all nodes
#: have read it by then. And how many give way to one.
VOID_AFTER_MS, MAX_VOID = 10_000, 100

#: Pinned messages in one room.
MAX_PINS = 50

_SEND = Script.of(__package__, "lua/send.lua")
_EDIT, _DELETE, _REACT = (script("message", name) for name in ("edit", "delete", "react"))
_PIN, _UNPIN = script("message", "pin"), script("message", "unpin")


class Sent(NamedTuple):
    """The id of a message in its room; `duplicate`: it was there already."""

    id: StreamId
    duplicate: bool

    def result(self, nonce: str) -> dict[str, Any]:
        """What the client is told."""
        ms, seq = self.id
        result: dict[str, Any] = {"id": f"{ms}-{seq}", "offset": to_offset(self.id), "time": ms}
        if nonce:
            result["nonce"] = nonce
        if self.duplicate:
            result["duplicate"] = True
        return result


class Messages:
    """Writes messages, and what becomes of them.

    Args:
        max_bytes: largest data of a message, unless the namespace says less.
    """

    def __init__(self, commands: Commands, rooms: Rooms, max_bytes: int, metrics: Metrics) -> None:
        self._commands = commands
        self._rooms = rooms
        self._max_bytes = max_bytes
        self._metrics = metrics

    async def send(self, room: Room, author: Author, message: Message) -> Sent:
        """Append a message; one whose nonce the author has used here of late is not written again.

        Raises:
            ReplyError: 103 banned or muted, 106 too large, 111 slow mode.
            Unavailable: it may have been written or not. With a nonce it was tried again, and the
                caller may do so, too.
            CommandFailed: as `Commands.script`.
        """
        self._check_size(room, message.data)
        name = author.key
        rooms = self._rooms
        keys = [
            rooms.stream(room),
            rooms.key("room", room),
            rooms.key("bans", room),
            rooms.key("mutes", room),
            rooms.key_of("slow", room, name),
        ]
        arguments: list[Argument] = [
            author.user,
            author.info,
            author.above,
            room.namespace.history_size,
            message.data,
        ]
        started = time.perf_counter()
        if message.nonce:
            keys.append(rooms.key_of("nonce", room, f"{name}\n{message.nonce}"))
            arguments.append(NONCE_MS)
            try:
                word, entry_id = await rooms.call(_SEND, keys, arguments)
            except Unavailable:
                # The nonce makes it safe: what the lost answer was about is found, not written twice.
                word, entry_id = await again(self._commands, lambda: rooms.call(_SEND, keys, arguments))
        else:
            word, entry_id = await rooms.call(_SEND, keys, arguments)
        duplicate = word == b"duplicate"
        if duplicate:
            self._metrics.chat_duplicates.inc()
        else:
            self._metrics.publish_seconds.observe(time.perf_counter() - started)
            self._metrics.published[channels.label(room.channel)].inc()
        return Sent(parse_id(entry_id), duplicate)

    async def edit(self, room: Room, author: Author, message_id: str, content: dict[str, Any]) -> Sent:
        """Put other content in a message; returns the event.

        Args:
            content: `text` or `body`, as `message.content` reads it.

        Raises:
            ReplyError: 103 not the author's nor a moderator's, or barred; 404; 106 too large, too often.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        written = orjson.dumps(content)
        event = orjson.dumps({"type": "edit", "id": message_id, **content})
        self._check_size(room, event)
        _, event_id = await self._rooms.act_on(_EDIT, room, author, message_id, [written, event, MAX_EDITS])
        return Sent(parse_id(event_id), duplicate=False)

    async def delete(self, room: Room, author: Author, message_id: str, reason: str) -> None:
        """Take a message back: out of the stream, and out of the memory of all nodes.

        Raises:
            ReplyError: 103 not the author's nor a moderator's, or banned; 404.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = orjson.dumps({"type": "delete", "id": message_id})
        await self._rooms.act_on(_DELETE, room, author, message_id, [event, reason])

    async def react(
        self, room: Room, author: Author, message_id: str, key: str, *, remove: bool
    ) -> dict[str, int]:
        """Add a reaction or take it back; returns all counts of the message.

        Raises:
            ReplyError: 103 banned or muted, 404, 106 too many different ones.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        action = "remove" if remove else "add"
        _, counts = await self._rooms.act_on(
            _REACT, room, author, message_id, [key, action, MAX_REACTIONS, VOID_AFTER_MS, MAX_VOID]
        )
        names = map(bytes.decode, counts[::2])
        return dict(zip(names, map(int, counts[1::2]), strict=True))

    async def pin(self, room: Room, author: Author, message_id: str) -> None:
        """Pin a message. It stays pinned when the stream no longer holds it.

        Raises:
            ReplyError: 103 no moderator, 404, 106 too many.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = orjson.dumps({"type": "pin", "id": message_id})
        await self._rooms.act_on(_PIN, room, author, message_id, [event, MAX_PINS])

    async def unpin(self, room: Room, author: Author, message_id: str) -> None:
        """Unpin a message.

        Raises:
            ReplyError: 103 no moderator, 404 not pinned.
            Unavailable, CommandFailed: as `Commands.script`.
        """
        event = orjson.dumps({"type": "unpin", "id": message_id})
        await self._rooms.act_on(_UNPIN, room, author, message_id, [event])

    def _check_size(self, room: Room, data: bytes) -> None:
        limit = min(room.namespace.publication_bytes or self._max_bytes, self._max_bytes)
        if len(data) > limit:
            raise limit_exceeded(f"the message has {len(data)} bytes, {limit} are allowed")
