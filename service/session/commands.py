"""What each command does. A handler answers with a result, or with a coroutine that will."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

import orjson

from service.channels import Access, Namespace
from service.errors import (
    already_subscribed,
    bad_request,
    limit_exceeded,
    permission_denied,
    unknown_channel,
    unrecoverable_position,
)
from service.hub.hub import Channel
from service.hub.outbox import Outbox
from service.request import Request
from service.session.context import Context
from service.session.joining import Bounds, Found, Joined, Need, Position, attempt, join
from service.session.protocol import json_list
from service.streams.position import from_offset, to_offset

Result = dict[str, Any]
Answer = Result | Coroutine[None, None, Result]
Action = Literal["subscribe", "publish", "history", "presence"]


class Session(Protocol):
    """What a handler needs of the session that asks."""

    outbox: Outbox
    subscriptions: dict[str, Channel]
    #: Subscriptions under way.
    joining: int

    def info(self) -> bytes:
        """Who the client is: a JSON object."""

    def connect_result(self) -> Result:
        """What the client is told when it connects."""


#: Subscribe flag: refuse with 112 rather than go on after a gap.
REJECT_UNRECOVERED = 2


def _allowed(context: Context, request: Request, action: Action) -> tuple[str, Namespace]:
    """The channel a request names, and its namespace.

    Raises:
        ReplyError: 107 no name, 102 no such namespace, 103 not allowed.
    """
    channel = request.text("channel")
    if not channel:
        raise bad_request("channel is required")
    namespace = context.settings.namespace_of(channel)
    if namespace is None:
        raise unknown_channel()
    access: Access = getattr(namespace, action)
    if access != "anonymous":
        raise permission_denied()
    return channel, namespace


def connect(session: Session, context: Context, request: Request) -> Answer:
    """Open the session."""
    return session.connect_result()


def ping(session: Session, context: Context, request: Request) -> Answer:
    """Answer."""
    return {}


def send(session: Session, context: Context, request: Request) -> Answer:
    """A message to the server: there is nobody to hear it."""
    return {}


# Subscriptions


def subscribe(session: Session, context: Context, request: Request) -> Answer:
    """Subscribe, and recover what was missed if asked to."""
    channel, namespace = _allowed(context, request, "subscribe")
    if channel in session.subscriptions:
        raise already_subscribed()
    if len(session.subscriptions) + session.joining >= context.settings.limits.subscriptions:
        raise limit_exceeded("too many subscriptions")
    position = None
    if request.flag("recover"):
        position = Position(request.integer("offset"), request.text("epoch"))
    flag = request.integer("flag")
    bounds = _bounds(context)
    # Nearly always the channel is followed and memory is enough: no task, no wait.
    followed = context.hub.get(channel)
    if followed is not None:
        outcome = attempt(followed, position, bounds, Found())
        if not isinstance(outcome, Need):
            return _joined(session, context, followed, outcome, flag, hit=True)
    session.joining += 1  # here, so that many subscribes in one message are counted
    return _subscribe_by_reading(session, context, channel, namespace, position, bounds, flag)


def _bounds(context: Context) -> Bounds:
    limits = context.settings.limits
    # Half the outbox: a recovery that filled it would close the client as slow, for ever again.
    return Bounds(limits.recovery_entries, limits.outbox_bytes // 2)


async def _subscribe_by_reading(
    session: Session,
    context: Context,
    name: str,
    namespace: Namespace,
    position: Position | None,
    bounds: Bounds,
    flag: int,
) -> Result:
    try:
        channel = await context.hub.hold(name, namespace)
        try:
            joined = await join(context.hub, context.history, channel, position, bounds)
            # No wait between the last attempt and here: the subscription begins at that cursor.
            return _joined(session, context, channel, joined, flag, hit=False)
        finally:
            context.hub.release(channel)
    finally:
        session.joining -= 1


def _joined(
    session: Session, context: Context, channel: Channel, joined: Joined, flag: int, *, hit: bool
) -> Result:
    """Add the subscription and say where it begins. Must not wait."""
    if joined.recovered is not None:
        outcome = ("hit" if hit else "miss") if joined.recovered else "gap"
        context.metrics.resume.labels(outcome).inc()
        context.metrics.resume_entries.observe(len(joined.publications))
        if not joined.recovered and flag & REJECT_UNRECOVERED:
            raise unrecoverable_position()
    if not session.outbox.closed:
        context.hub.add(channel, session.outbox)
        session.subscriptions[channel.name] = channel
    result: Result = {"recoverable": True, "positioned": True, "epoch": joined.epoch}
    if joined.offset:
        result["offset"] = joined.offset
    if joined.recovered is not None:
        result["was_recovering"] = True
        if joined.recovered:
            result["recovered"] = True
    if joined.publications:
        result["publications"] = json_list(joined.publications)
    return result


def unsubscribe(session: Session, context: Context, request: Request) -> Answer:
    """Leave a channel; fine if the session never had it."""
    name = request.text("channel")
    if not name:
        raise bad_request("channel is required")
    channel = session.subscriptions.pop(name, None)
    if channel is not None:
        context.hub.remove(channel, session.outbox)
    return {}


# Streams


def publish(session: Session, context: Context, request: Request) -> Answer:
    """Append to the channel's stream."""
    channel, namespace = _allowed(context, request, "publish")
    data = request.payload("data")
    if len(data) > context.settings.limits.publication_bytes:
        raise limit_exceeded(f"data is larger than {context.settings.limits.publication_bytes} bytes")
    return _publish(session, context, channel, namespace, data)


async def _publish(
    session: Session, context: Context, channel: str, namespace: Namespace, data: bytes
) -> Result:
    await context.publisher.publish(channel, namespace, data, session.info())
    return {}


def history(session: Session, context: Context, request: Request) -> Answer:
    """A page of the channel's stream."""
    channel, namespace = _allowed(context, request, "history")
    limit = request.integer("limit", least=-1)
    most = context.settings.limits.history_page
    since = request.nested("since")
    position = None if since is None else Position(since.integer("offset"), since.text("epoch"))
    limit = most if limit < 0 else min(limit, most)
    return _history(context, channel, namespace, position, limit, reverse=request.flag("reverse"))


async def _history(
    context: Context,
    channel: str,
    namespace: Namespace,
    since: Position | None,
    limit: int,
    *,
    reverse: bool,
) -> Result:
    epoch = await context.history.epoch(channel)
    if since is not None and since.epoch and since.epoch != epoch:
        raise unrecoverable_position()
    start = None if since is None else from_offset(since.offset, reverse=reverse)
    page = await context.history.page(channel, namespace, start, limit, reverse=reverse)
    result: Result = {"epoch": epoch, "offset": to_offset(page.top)}
    if page.publications:
        result["publications"] = json_list([publication.json for publication in page.publications])
    return result


# Presence


def presence(session: Session, context: Context, request: Request) -> Answer:
    """Who is subscribed on this node."""
    name, _ = _allowed(context, request, "presence")
    channel = context.hub.get(name)
    found = [] if channel is None else [outbox.owner for outbox in channel.outboxes()]
    return {"presence": {owner.id: orjson.Fragment(owner.info()) for owner in found}}


def presence_stats(session: Session, context: Context, request: Request) -> Answer:
    """How many are subscribed on this node."""
    name, _ = _allowed(context, request, "presence")
    channel = context.hub.get(name)
    count = 0 if channel is None else len(channel)
    # All are anonymous: one user, if there is anybody.
    return {"num_clients": count, "num_users": min(count, 1)} if count else {}


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
}
