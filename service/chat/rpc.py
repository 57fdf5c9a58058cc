"""The commands of chat (docs/chat.md): parameters in, a result that can be written as JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from service.channels import Namespace
from service.chat.chat import Chat
from service.chat.moderation import Sanction
from service.chat.parameters import choice, content, integer, line, message, message_id, user_id, user_ids
from service.chat.room import Author, Room
from service.errors import bad_request, not_available, permission_denied
from service.identity.identity import Action
from service.request import Request

#: Characters of a reaction, a title, a topic, a reason.
MAX_KEY, MAX_TITLE, MAX_TOPIC, MAX_REASON = 32, 200, 1000, 500

#: Seconds of slow mode; seconds that a mute or ban lasts, where it is not for ever.
MAX_SLOW, MAX_SANCTION = 21_600, 315_360_000

#: Messages of one page, users of one look at markers, entries of one page of bans or of the record.
MAX_PAGE, MAX_MARKERS, MAX_LISTED = 100, 100, 1000

Result = dict[str, Any]


class Caller(Protocol):
    """Who calls: a session, or the application through the server API."""

    @property
    def user(self) -> str:
        """The application's id of the user; "" for anybody."""

    def info(self, channel: str) -> bytes:
        """JSON object that the channel sees of the caller: `user`, `client`, `conn_info`."""

    def allowed(self, channel: str, action: Action) -> Namespace:
        """The channel's namespace.

        Raises:
            ReplyError: 102 there is none, 103 this is not allowed.
        """

    def moderates(self, channel: str) -> bool:
        """Whether the caller may do all that an owner of the room may, whatever its role."""


Handler = Callable[[Chat, Caller, Request], Awaitable[Result]]

#: All commands, by their name on the wire.
METHODS: dict[str, Handler] = {}


def _method(handler: Handler) -> Handler:
    name = handler.__name__

    async def counted(chat: Chat, caller: Caller, request: Request) -> Result:
        result = await handler(chat, caller, request)
        chat.metrics.chat_commands[name].inc()
        return result

    METHODS[f"chat.{name}"] = counted
    return handler


def _room(caller: Caller, request: Request, action: Action) -> Room:
    channel = request.required("channel")
    namespace = caller.allowed(channel, action)
    if not namespace.chat:
        raise not_available("chat is not enabled in this namespace")
    return Room(channel, namespace)


def _author(caller: Caller, room: Room) -> Author:
    return Author(caller.user, caller.info(room.channel), caller.moderates(room.channel))


def _mod_or_signed_in(caller: Caller, room: Room, what: str) -> Author:
    """The caller, who must have said who they are, unless nothing is closed to them anyway."""
    author = _author(caller, room)
    if not author.user and not author.moderates:
        raise permission_denied(f"sign in to {what}")
    return author


def _signed_in(caller: Caller, room: Room, what: str) -> Author:
    """The caller, who must be a user: what is done is kept under that name."""
    author = _author(caller, room)
    if not author.user:
        raise permission_denied(f"sign in to {what}")
    return author


# Messages


@_method
async def send(chat: Chat, caller: Caller, request: Request) -> Result:
    """Say something."""
    room = _room(caller, request, "publish")
    said = message(request)
    sent = await chat.messages.send(room, _author(caller, room), said)
    return sent.result(said.nonce)


@_method
async def edit(chat: Chat, caller: Caller, request: Request) -> Result:
    """Say something else instead."""
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "edit messages")
    event = await chat.messages.edit(room, author, message_id(request, "id"), content(request))
    return {"edited": event.id[0]}


@_method
async def delete(chat: Chat, caller: Caller, request: Request) -> Result:
    """Take a message back."""
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "delete messages")
    reason = line(request, "reason", MAX_REASON)
    await chat.messages.delete(room, author, message_id(request, "id"), reason)
    return {}


@_method
async def react(chat: Chat, caller: Caller, request: Request) -> Result:
    """Add a reaction to a message, or take it back."""
    room = _room(caller, request, "publish")
    author = _signed_in(caller, room, "react")
    key = line(request, "key", MAX_KEY)
    if not key:
        raise bad_request("key is required")
    remove = request.flag("remove")
    counts = await chat.messages.react(room, author, message_id(request, "id"), key, remove=remove)
    return {"counts": counts}


@_method
async def pin(chat: Chat, caller: Caller, request: Request) -> Result:
    """Pin a message."""
    room = _room(caller, request, "publish")
    await chat.messages.pin(room, _mod_or_signed_in(caller, room, "pin messages"), message_id(request, "id"))
    return {}


@_method
async def unpin(chat: Chat, caller: Caller, request: Request) -> Result:
    """Unpin a message."""
    room = _room(caller, request, "publish")
    await chat.messages.unpin(
        room, _mod_or_signed_in(caller, room, "unpin messages"), message_id(request, "id")
    )
    return {}


# Who is there, and where


@_method
async def typing(chat: Chat, caller: Caller, request: Request) -> Result:
    """Tell that the caller types, or no longer does."""
    room = _room(caller, request, "publish")
    going_on = request.flag("typing") or not request.has("typing")
    await chat.signals.typing(room, _author(caller, room), typing=going_on)
    return {}


@_method
async def read(chat: Chat, caller: Caller, request: Request) -> Result:
    """Tell how far the caller has read. Needs no right to write: readers read everywhere."""
    room = _room(caller, request, "history")
    author = _signed_in(caller, room, "keep what you have read")
    return {"id": await chat.signals.read(room, author, message_id(request, "id"))}


@_method
async def reads(chat: Chat, caller: Caller, request: Request) -> Result:
    """How far users have read."""
    room = _room(caller, request, "history")
    author = _author(caller, room)
    await chat.rooms.admit(room, author)
    users = user_ids(request, "users", MAX_MARKERS) or [author.user]
    return {"markers": await chat.signals.markers(room, users)}


@_method
async def history(chat: Chat, caller: Caller, request: Request) -> Result:
    """A page of messages."""
    room = _room(caller, request, "history")
    author = _author(caller, room)
    limit = integer(request, "limit", MAX_PAGE, least=1, default=50)
    before, after = request.text("before"), request.text("after")
    if before and after:
        raise bad_request("either before or after, not both")
    if after:
        page = await chat.history.forward(room, author, limit, message_id(request, "after"))
    else:
        before = message_id(request, "before") if before else ""
        page = await chat.history.backward(room, author, limit, before)
    result: Result = {"messages": page.messages}
    if page.next:
        result["next"] = page.next
    if page.limited:
        result["limited"] = True
    return result


@_method
async def room(chat: Chat, caller: Caller, request: Request) -> Result:
    """What the room is like, and what the caller is in it."""
    room = _room(caller, request, "history")
    return await chat.history.room(room, _author(caller, room))


# Moderation


@_method
async def set_room(chat: Chat, caller: Caller, request: Request) -> Result:
    """Change the room."""
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "moderate")
    changes: dict[str, str | int] = {}
    for name, most in (("title", MAX_TITLE), ("topic", MAX_TOPIC)):
        if request.has(name):
            changes[name] = line(request, name, most, lines=True)
    if request.has("slow_seconds"):
        changes["slow_seconds"] = integer(request, "slow_seconds", MAX_SLOW)
    if not changes:
        raise bad_request("one of title, topic, slow_seconds is required")
    await chat.moderation.set_room(room, author, changes)
    return {}


@_method
async def set_role(chat: Chat, caller: Caller, request: Request) -> Result:
    """Give somebody a role."""
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "moderate")
    role = choice(request, "role", ("owner", "moderator", "member"))
    await chat.moderation.set_role(room, author, user_id(request), role)
    return {}


async def _sanction(chat: Chat, caller: Caller, request: Request, what: Sanction) -> Result:
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "moderate")
    seconds = integer(request, "seconds", MAX_SANCTION)
    reason = line(request, "reason", MAX_REASON)
    until = await chat.moderation.sanction(room, author, what, user_id(request), seconds, reason)
    return {"until": until} if until else {}


@_method
async def mute(chat: Chat, caller: Caller, request: Request) -> Result:
    """Keep somebody from writing."""
    return await _sanction(chat, caller, request, "mute")


@_method
async def unmute(chat: Chat, caller: Caller, request: Request) -> Result:
    """Let somebody write again."""
    return await _sanction(chat, caller, request, "unmute")


@_method
async def ban(chat: Chat, caller: Caller, request: Request) -> Result:
    """Keep somebody out."""
    return await _sanction(chat, caller, request, "ban")


@_method
async def unban(chat: Chat, caller: Caller, request: Request) -> Result:
    """Let somebody in again."""
    return await _sanction(chat, caller, request, "unban")


@_method
async def purge(chat: Chat, caller: Caller, request: Request) -> Result:
    """Delete all messages of somebody."""
    room = _room(caller, request, "publish")
    author = _mod_or_signed_in(caller, room, "moderate")
    reason = line(request, "reason", MAX_REASON)
    return {"deleted": await chat.moderation.purge(room, author, user_id(request), reason)}


@_method
async def banned(chat: Chat, caller: Caller, request: Request) -> Result:
    """Who is banned."""
    room = _room(caller, request, "history")
    author = _mod_or_signed_in(caller, room, "moderate")
    limit = integer(request, "limit", MAX_LISTED, least=1, default=100)
    found = await chat.moderation.banned(room, author, limit)
    return {"banned": [{"user": user, "until": until} for user, until in found.items()]}


@_method
async def audit(chat: Chat, caller: Caller, request: Request) -> Result:
    """What moderators have done."""
    room = _room(caller, request, "history")
    author = _mod_or_signed_in(caller, room, "moderate")
    limit = integer(request, "limit", MAX_LISTED, least=1, default=100)
    before = message_id(request, "before") if request.text("before") else ""
    return {"acts": await chat.moderation.audit(room, author, limit, before)}
