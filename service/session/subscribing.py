"""Subscriptions: who may have one, where it begins, what comes with it, and how it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import orjson

from service.channels import LIVE, Namespace
from service.errors import (
    already_subscribed,
    limit_exceeded,
    permission_denied,
    token_expired,
    unknown_channel,
    unrecoverable_position,
)
from service.hub.hub import Channel
from service.identity.identity import Grant, Override
from service.identity.permissions import moderates, permitted, refusal
from service.identity.tokens import TokenExpired, TokenRefused
from service.raw_json import JsonList
from service.request import Request
from service.session.caller import Answer, Caller, Result, Session, client_info
from service.session.context import Context, Detail
from service.session.joining import Bounds, Found, Joined, Need, Position, Wish, attempt, join

#: Subscribe flag: refuse with 112 rather than go on after a gap.
REJECT_UNRECOVERED = 2


class Subscription(NamedTuple):
    """A subscription that a client asks for, or that the server makes for it."""

    channel: str
    namespace: Namespace
    position: Position | None = None
    flag: int = 0
    grant: Grant | None = None
    #: JSON, shown to others as `chan_info`.
    info: bytes | None = None
    #: JSON, given to the client with the subscription.
    data: bytes | None = None
    server_side: bool = False
    wants_join_leave: bool = False
    override: Override = Override()

    @property
    def live(self) -> bool:
        """Whether the client gets what is over at once, too."""
        if self.namespace.chat or self.override.join_leave:
            return True
        return self.namespace.join_leave and self.wants_join_leave and self.override.join_leave is None

    @property
    def present(self) -> bool:
        """Whether others see the client in the channel."""
        if self.override.presence is not None:
            return self.override.presence
        namespace = self.namespace
        return namespace.presence != "nobody" or namespace.join_leave or namespace.chat


def position_of(request: Request) -> Position | None:
    """Where a client that recovers says it was."""
    if not request.flag("recover"):
        return None
    return Position(request.integer("offset"), request.text("epoch"))


def subscribe(session: Session, context: Context, request: Request) -> Answer:
    """Subscribe, and recover what was missed if asked to."""
    channel = request.required("channel")
    namespace = context.settings.namespace_of(channel)
    if namespace is None:
        raise unknown_channel()
    if channel in session.subscriptions:
        raise already_subscribed()
    if len(session.subscriptions) + session.joining >= context.settings.limits.subscriptions:
        raise limit_exceeded("too many subscriptions")
    asked = Subscription(
        channel,
        namespace,
        position_of(request),
        request.integer("flag"),
        wants_join_leave=request.flag("join_leave"),
    )
    token = request.text("token")
    data = request.payload("data") if namespace.subscribe_hook and request.has("data") else b"null"
    if not namespace.subscribe_hook:
        try:
            return _granted(session, context, asked, _grant(session, context, channel, token))
        except TokenRefused as exc:
            if exc.reason != "unknown_key":
                raise _refusal(exc) from None
    session.joining += 1  # here, so that many subscribes in one message are counted
    return _subscribe_asking(session, context, asked, token, data)


def _grant(session: Session, context: Context, channel: str, token: str) -> Grant | None:
    """What a subscription token grants; None where there is none.

    Raises:
        TokenRefused: the token is not good.
        ReplyError: 103, it was revoked.
    """
    if not token:
        return None
    grant = context.tokens.subscription(token, session.identity.user, channel)
    _check_revoked(context, session.identity.user, grant)
    return grant


def _check_revoked(context: Context, user: str, grant: Grant) -> None:
    if context.control.revoked(user, grant.issued_at):
        context.metrics.auth_failures.labels("revoked").inc()
        raise permission_denied("the token was revoked")


def _refusal(exc: TokenRefused) -> Exception:
    return token_expired() if isinstance(exc, TokenExpired) else permission_denied("the token is not valid")


async def _subscribe_asking(
    session: Session, context: Context, asked: Subscription, token: str, data: bytes
) -> Result:
    """Subscribe where somebody has to be asked first: for keys, or the application."""
    try:
        try:
            grant = await _grant_with_new_keys(session, context, asked.channel, token)
        except TokenRefused as exc:
            raise _refusal(exc) from None
        if asked.namespace.subscribe_hook:
            _check(session, asked, grant)
            now = time.time()
            answer = await context.hooks.subscribe(session.id, session.identity, asked.channel, data)
            asked = asked._replace(data=answer.data)
            if grant is None:  # what the application answers is as good as a token made when it was asked
                grant = Grant(answer.info, answer.expires_at, issued_at=now, override=answer.override)
    finally:
        session.joining -= 1
    result = _granted(session, context, asked, grant)
    return result if isinstance(result, dict) else await result


async def _grant_with_new_keys(session: Session, context: Context, channel: str, token: str) -> Grant | None:
    try:
        return _grant(session, context, channel, token)
    except TokenRefused as exc:
        if exc.reason != "unknown_key":
            raise
    await context.tokens.refresh()
    return _grant(session, context, channel, token)


def _check(session: Session, asked: Subscription, grant: Grant | None) -> None:
    if not permitted(session.identity, grant, asked.namespace, asked.channel, "subscribe"):
        raise refusal(session.identity, asked.namespace, "subscribe")


def _granted(session: Session, context: Context, asked: Subscription, grant: Grant | None) -> Answer:
    """Subscribe, if that is permitted. Nearly always memory is enough: no task, no wait."""
    _check_new(session, asked)
    _check(session, asked, grant)
    if grant is not None:
        _check_revoked(context, session.identity.user, grant)  # again: the application may have been asked
        asked = asked._replace(grant=grant, info=grant.info or asked.info, override=grant.override)
    read_bans = _can_be_banned(session, asked) and not context.bans.known(asked.channel)
    if not read_bans:
        _check_ban(session, context, asked)
        outcome = from_memory(context, asked)
        if outcome is not None:
            return begin(session, context, asked, *outcome, hit=True)
    session.joining += 1
    return _subscribe_by_reading(session, context, asked, read_bans=read_bans)


async def _subscribe_by_reading(
    session: Session, context: Context, asked: Subscription, *, read_bans: bool
) -> Result:
    try:
        if read_bans:
            await context.bans.read(asked.channel)
            _check_ban(session, context, asked)
        async with held(context, [asked]) as channels:
            ((channel, live),) = channels
            (joined,) = await join(
                context.hub, context.history, [Wish(channel, asked.position)], bounds(context)
            )
            # No wait between the last attempt and here: the subscription begins at that cursor.
            _check_again(session, context, asked)
            return begin(session, context, asked, channel, live, joined, hit=False)
    finally:
        session.joining -= 1


def _check_again(session: Session, context: Context, asked: Subscription) -> None:
    """A ban, a revocation or a subscription by the server that came while this one was under way."""
    _check_new(session, asked)
    _check_ban(session, context, asked)
    if asked.grant is not None:
        _check_revoked(context, session.identity.user, asked.grant)


def _check_new(session: Session, asked: Subscription) -> None:
    if asked.channel in session.subscriptions:
        raise already_subscribed()


def _check_ban(session: Session, context: Context, asked: Subscription) -> None:
    if _can_be_banned(session, asked):
        context.bans.check(asked.channel, session.identity.user)


def _can_be_banned(session: Session, asked: Subscription) -> bool:
    identity = session.identity
    return (
        asked.namespace.chat and bool(identity.user) and not moderates(identity, asked.grant, asked.channel)
    )


# What server-side subscriptions do in the same way


def bounds(context: Context) -> Bounds:
    """How much one recovery may bring."""
    limits = context.settings.limits
    # Half the outbox: a recovery that filled it would close the client as slow, for ever again.
    return Bounds(limits.recovery_entries, limits.outbox_bytes // 2)


def from_memory(context: Context, asked: Subscription) -> tuple[Channel, Channel | None, Joined] | None:
    """Where the subscription begins, if that takes no reading; then `begin` must follow in this step."""
    channel = context.hub.get(asked.channel)
    if channel is None:
        return None
    live = None
    if asked.live:
        live = context.hub.get(context.keys.live(asked.channel))
        if live is None:
            return None
    outcome = attempt(channel, asked.position, bounds(context), Found())
    return None if isinstance(outcome, Need) else (channel, live, outcome)


@contextlib.asynccontextmanager
async def held(
    context: Context, asked: Sequence[Subscription]
) -> AsyncIterator[list[tuple[Channel, Channel | None]]]:
    """Hold the channel of each subscription, and that of what is over at once where it is wanted.

    Whoever has subscribed in the meantime keeps them.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def hold(name: str, namespace: Namespace, shown: str | None = None) -> Channel:
            channel = await context.hub.hold(name, namespace, shown)
            stack.callback(context.hub.release, channel)
            return channel

        pairs: list[tuple[Channel, Channel | None]] = []
        for one in asked:
            channel = await hold(one.channel, one.namespace)
            live = await hold(context.keys.live(one.channel), LIVE, one.channel) if one.live else None
            pairs.append((channel, live))
        yield pairs


def begin(
    session: Session,
    context: Context,
    asked: Subscription,
    channel: Channel,
    live: Channel | None,
    joined: Joined,
    *,
    hit: bool,
) -> Result:
    """Add the subscription and say where it begins. Must not wait."""
    if joined.recovered is not None:
        outcome = ("hit" if hit else "miss") if joined.recovered else "gap"
        context.metrics.resume.labels(outcome).inc()
        context.metrics.resume_entries.observe(len(joined.publications))
        if not joined.recovered and asked.flag & REJECT_UNRECOVERED:
            raise unrecoverable_position()
    result: Result = {"recoverable": True, "positioned": True, "epoch": joined.epoch}
    if not session.outbox.closed:
        context.hub.add(channel, session.outbox)
        session.subscriptions[channel.name] = channel
        detail = Detail(asked.server_side, asked.grant, asked.info, live, asked.present)
        if detail != Detail():
            _keep(session, context, asked, detail)
        if detail.expires_at is not None:
            result |= {"expires": True, "ttl": ttl(detail.expires_at)}
    if joined.offset:
        result["offset"] = joined.offset
    if asked.data is not None:
        result["data"] = orjson.Fragment(asked.data)
    if joined.recovered is not None:
        result["was_recovering"] = True
    if joined.recovered or (asked.server_side and joined.publications):
        # Of a server-side subscription SDKs read publications, a snapshot too, only with this.
        result["recovered"] = True
    if joined.publications:
        result["publications"] = JsonList(joined.publications)
    return result


def _keep(session: Session, context: Context, asked: Subscription, detail: Detail) -> None:
    if session.details is None:
        session.details = {}
    session.details[asked.channel] = detail
    if detail.live is not None:
        context.hub.add(detail.live, session.outbox)
    if detail.present:
        info, events = client_info(session, detail.info), asked.namespace.join_leave or asked.namespace.chat
        context.presence.join(asked.channel, session.id, session.identity.user, info, events=events)
    if detail.expires_at is not None:
        session.expiries_changed()


def ttl(expires_at: float) -> int:
    """Seconds from now, at least 1: SDKs take 0 for never."""
    return max(1, int(expires_at - time.time()))


def unsubscribe(session: Session, context: Context, request: Request) -> Answer:
    """Leave a channel; fine if the session never had it."""
    session.leave(request.required("channel"))
    return {}


def sub_refresh(session: Session, context: Context, request: Request) -> Answer:
    """Go on with a new subscription token."""
    return _sub_refresh(session, context, request.required("channel"), request.text("token"))


async def _sub_refresh(session: Session, context: Context, channel: str, token: str) -> Result:
    try:
        grant = await _grant_with_new_keys(session, context, channel, token)
    except TokenRefused as exc:
        raise _refusal(exc) from None
    detail = Caller(session, context).detail(channel)
    if grant is None or detail is None or session.details is None:
        raise permission_denied("there is no subscription with a token to this channel")
    session.details[channel] = detail._replace(grant=grant)
    session.expiries_changed()
    return {"expires": True, "ttl": ttl(grant.expires_at)} if grant.expires_at is not None else {}
