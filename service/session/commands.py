"""What each command does. A handler answers with a result, or with a coroutine that will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from service.channels import Namespace
from service.chat import rpc as chat
from service.chat.parameters import content, message_id
from service.errors import (
    bad_request,
    limit_exceeded,
    method_not_found,
    unrecoverable_position,
)
from service.raw_json import JsonList
from service.request import Request
from service.session.caller import Answer, Caller, Result, Session
from service.session.connecting import connect, refresh
from service.session.context import Context
from service.session.joining import Position
from service.session.subscribing import sub_refresh, subscribe, unsubscribe
from service.streams.position import from_offset, to_offset

#: Chat commands that are shown to the application's back end as publications.
_PUBLISHING = frozenset(("chat.send", "chat.edit"))

#: Those that count as publications: each goes to everybody in the room.
_RATED = _PUBLISHING | {"chat.react"}


def ping(session: Session, context: Context, request: Request) -> Answer:
    """Answer."""
    return {}


def send(session: Session, context: Context, request: Request) -> Answer:
    """A message to the server: there is nobody to hear it."""
    return {}


# Publishing


def publish(session: Session, context: Context, request: Request) -> Answer:
    """Append to the channel's stream."""
    channel, caller = request.required("channel"), Caller(session, context)
    namespace = caller.allowed(channel, "publish")
    return _publish(caller, channel, namespace, _bounded(context, namespace, request.payload("data")))


def _bounded(context: Context, namespace: Namespace, data: bytes) -> bytes:
    most = namespace.publication_bytes or context.settings.limits.publication_bytes
    if len(data) > most:
        raise limit_exceeded(f"data is larger than {most} bytes")
    return data


async def _publish(caller: Caller, channel: str, namespace: Namespace, data: bytes) -> Result:
    if namespace.chat:
        await _chat(caller, "chat.send", _message(channel, data))
        return {}
    context = caller.context
    await caller.spend_publication(channel, namespace)
    if namespace.publish_hook:
        data = await context.hooks.publish(caller.session.id, caller.session.identity, channel, data)
        _bounded(context, namespace, data)
    await context.publisher.publish(channel, namespace, data, caller.info(channel))
    return {}


def _message(channel: str, data: bytes) -> Request:
    """The payload of a publication as the parameters of a message."""
    fields = orjson.loads(data)
    if not isinstance(fields, dict):
        raise bad_request("in a chat channel data must be an object with text or body")
    return Request({**fields, "channel": channel})


def rpc(session: Session, context: Context, request: Request) -> Answer:
    """Call a method of the server: those of chat."""
    method = request.text("method")
    if method not in chat.METHODS:
        raise method_not_found()
    params = request.nested("data")
    if params is None:
        raise bad_request("data must be an object")
    return _rpc(Caller(session, context), method, params)


async def _rpc(caller: Caller, method: str, params: Request) -> Result:
    return {"data": await _chat(caller, method, params)}


async def _chat(caller: Caller, method: str, params: Request) -> dict[str, Any]:
    if method in _RATED:
        channel, context = params.required("channel"), caller.context
        namespace = caller.allowed(channel, "publish")
        await caller.spend_publication(channel, namespace)
        if namespace.publish_hook and method in _PUBLISHING:
            content(params)  # the application is asked about messages only, whatever clients send
            if method == "chat.edit":
                message_id(params, "id")
            asked = params.encoded()
            identity = caller.session.identity
            params = _message(
                channel, await context.hooks.publish(caller.session.id, identity, channel, asked)
            )
    return await chat.METHODS[method](caller.context.chat, caller, params)


# History


def history(session: Session, context: Context, request: Request) -> Answer:
    """A page of the channel's stream."""
    channel = request.required("channel")
    namespace = Caller(session, context).allowed(channel, "history")
    limit = request.integer("limit", least=-1)
    most = context.settings.limits.history_page
    since = request.nested("since")
    position = None if since is None else Position(since.integer("offset"), since.text("epoch"))
    limit = most if limit < 0 else min(limit, most)
    return _history(session, context, channel, namespace, position, limit, reverse=request.flag("reverse"))


async def _history(
    session: Session,
    context: Context,
    channel: str,
    namespace: Namespace,
    since: Position | None,
    limit: int,
    *,
    reverse: bool,
) -> Result:
    await _check_ban(session, context, channel, namespace)
    epoch = await context.history.epoch(channel)
    if since is not None and since.epoch and since.epoch != epoch:
        raise unrecoverable_position()
    start = None if since is None else from_offset(since.offset, reverse=reverse)
    page = await context.history.page(channel, namespace, start, limit, reverse=reverse)
    result: Result = {"epoch": epoch, "offset": to_offset(page.top)}
    if page.publications:
        result["publications"] = JsonList([publication.json for publication in page.publications])
    return result


async def _check_ban(session: Session, context: Context, channel: str, namespace: Namespace) -> None:
    """Raises ReplyError 103; Unavailable, CommandFailed as `Bans.read`."""
    if namespace.chat and session.identity.user and not Caller(session, context).moderates(channel):
        await context.bans.read(channel)
        context.bans.check(channel, session.identity.user)


# Presence


def presence(session: Session, context: Context, request: Request) -> Answer:
    """Who is subscribed, on all nodes."""
    channel = request.required("channel")
    namespace = Caller(session, context).allowed(channel, "presence")
    return _presence(session, context, channel, namespace)


async def _presence(session: Session, context: Context, channel: str, namespace: Namespace) -> Result:
    await _check_ban(session, context, channel, namespace)
    members = await context.presence.members(channel)
    return {"presence": {client: orjson.Fragment(info) for client, info in members.items()}}


def presence_stats(session: Session, context: Context, request: Request) -> Answer:
    """How many are subscribed, on all nodes."""
    channel = request.required("channel")
    namespace = Caller(session, context).allowed(channel, "presence")
    return _presence_stats(session, context, channel, namespace)


async def _presence_stats(session: Session, context: Context, channel: str, namespace: Namespace) -> Result:
    await _check_ban(session, context, channel, namespace)
    clients, users = await context.presence.stats(channel)
    return {"num_clients": clients, "num_users": users} if clients else {}


HANDLERS: dict[str, Callable[[Session, Context, Request], Answer]] = {
    "connect": connect,
    "ping": ping,
    "send": send,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "publish": publish,
    "history": history,
    "presence": presence,
    "presence_stats": presence_stats,
    "rpc": rpc,
    "refresh": refresh,
    "sub_refresh": sub_refresh,
}
