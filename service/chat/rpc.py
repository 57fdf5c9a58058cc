"""The commands of chat (docs/chat.md): parameters in, a result that can be written as JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from service.channels import Namespace
from service.chat.chat import Chat
from service.chat.message import message
from service.chat.room import Author, Room
from service.errors import bad_request, not_available
from service.identity.identity import Action
from service.request import Request

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
        chat.metrics.chat_commands.labels(name).inc()
        return result

    METHODS[f"chat.{name}"] = counted
    return handler


def _room(caller: Caller, request: Request, action: Action) -> Room:
    channel = request.text("channel")
    if not channel:
        raise bad_request("channel is required")
    namespace = caller.allowed(channel, action)
    if not namespace.chat:
        raise not_available("chat is not enabled in this namespace")
    return Room(channel, namespace)


def _author(caller: Caller, room: Room) -> Author:
    return Author(caller.user, caller.info(room.channel), caller.moderates(room.channel))


@_method
async def send(chat: Chat, caller: Caller, request: Request) -> Result:
    """Say something."""
    room = _room(caller, request, "publish")
    said = message(request)
    sent = await chat.messages.send(room, _author(caller, room), said)
    return sent.result(said.nonce)
