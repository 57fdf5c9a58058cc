"""`connect` and `refresh`: who the client is, and what it is subscribed to from the start."""

from __future__ import annotations

from itertools import compress
from typing import NamedTuple

import orjson

from service import __version__, channels
from service.config import Settings
from service.errors import (
    CONNECTION_LIMIT,
    INVALID_TOKEN,
    SessionEnded,
    bad_request,
    internal,
    token_expired,
    unauthorized,
)
from service.identity.identity import ANONYMOUS, Identity, ServerSubscription
from service.identity.permissions import moderates
from service.identity.tokens import TokenExpired, TokenRefused
from service.request import Request
from service.session.caller import Answer, Result, Session
from service.session.context import Context
from service.session.joining import Position, Wish, join
from service.session.subscribing import Subscription, begin, bounds, from_memory, held, position_of, ttl


class Connecting(NamedTuple):
    """A `connect` under way."""

    #: Of server-side subscriptions that the client had before.
    positions: dict[str, Position]
    #: JSON that the application's back end gives to the client.
    data: bytes | None = None


def connect(session: Session, context: Context, request: Request) -> Answer:
    """Open the session."""
    connecting = Connecting(_positions(request))
    token = request.text("token")
    if not token and not context.settings.hooks.connect_url:
        return _identified(session, context, ANONYMOUS, connecting)
    if token:
        try:
            return _identified(session, context, _verified(context, token), connecting)
        except TokenRefused as exc:
            if exc.reason != "unknown_key":
                raise _refusal(exc) from None
    return _connect_asking(session, context, request, token, connecting)


def _positions(request: Request) -> dict[str, Position]:
    subs = request.nested("subs")
    if subs is None:
        return {}
    found = {name: subs.nested(name) for name in subs.names()}
    positions = {name: None if sub is None else position_of(sub) for name, sub in found.items()}
    return {name: position for name, position in positions.items() if position is not None}


def _verified(context: Context, token: str) -> Identity:
    """Raises TokenRefused, SessionEnded for what was revoked, ReplyError 100 while that is not known."""
    if not context.control.ready:
        raise internal()
    identity = context.tokens.connect(token)
    _check_revoked(context, identity)
    return identity


def _check_revoked(context: Context, identity: Identity) -> None:
    if context.control.revoked(identity.user, identity.issued_at):
        context.metrics.auth_failures.labels("revoked").inc()
        raise SessionEnded(INVALID_TOKEN)


def _refusal(exc: TokenRefused) -> Exception:
    return token_expired() if isinstance(exc, TokenExpired) else SessionEnded(INVALID_TOKEN)


async def _verified_with_new_keys(context: Context, token: str) -> Identity:
    try:
        return _verified(context, token)
    except TokenRefused as exc:
        if exc.reason != "unknown_key":
            raise _refusal(exc) from None
    await context.tokens.refresh()
    try:
        return _verified(context, token)
    except TokenRefused as exc:
        raise _refusal(exc) from None


async def _connect_asking(
    session: Session, context: Context, request: Request, token: str, connecting: Connecting
) -> Result:
    """Connect where somebody has to be asked who the client is: for keys, or the application."""
    if token:
        identity = await _verified_with_new_keys(context, token)
    else:
        data = request.payload("data") if request.has("data") else b"null"
        name, version = request.text("name"), request.text("version")
        headers = request.nested("headers") or Request({})
        sent = {header: headers.text(header) for header in headers.names()}
        answer = await context.hooks.connect(session.id, name, version, data, sent)
        identity = answer.identity
        connecting = connecting._replace(data=answer.data)
    result = _identified(session, context, identity, connecting)
    return result if isinstance(result, dict) else await result


def _identified(session: Session, context: Context, identity: Identity, connecting: Connecting) -> Answer:
    if not identity.user and not _anonymous_allowed(context.settings):
        context.metrics.auth_failures.labels("anonymous").inc()
        raise unauthorized()
    _check_revoked(context, identity)
    if session.identity.user not in ("", identity.user):  # refused, it tries again as somebody else
        counted = context.keys.connections(session.identity.user)
        context.presence.leave(counted, session.id, at_once=True)
    session.identity = identity
    session.expiries_changed()
    asked = _server_side(context, identity, connecting.positions)
    if len(asked) > context.settings.limits.subscriptions:
        raise bad_request("the token names more channels than limits.subscriptions allows")
    bans_known = all(context.bans.known(name) for name in _rooms(asked))
    if bans_known and not (context.settings.limits.connections_per_user and identity.user):
        asked = _without_bans(context, identity, asked)
        outcomes = [from_memory(context, one) for one in asked]
        begun = [
            begin(session, context, one, *outcome, hit=True)
            for one, outcome in zip(asked, outcomes, strict=True)
            if outcome is not None and None not in outcomes
        ]
        if len(begun) == len(asked):
            return _welcome(session, context, connecting, asked, begun)
    return _connect_by_reading(session, context, connecting, asked)


def _anonymous_allowed(settings: Settings) -> bool:
    """Whether there is anything for clients that have not said who they are."""
    return any(
        "anonymous" in (namespace.subscribe, namespace.publish, namespace.history, namespace.presence)
        for namespace in settings.namespaces.values()
    )


def _server_side(context: Context, identity: Identity, positions: dict[str, Position]) -> list[Subscription]:
    """What the token, or the user's id, subscribes the client to."""
    wanted = dict(identity.subscriptions)
    for prefix, namespace in context.settings.namespaces.items():
        if namespace.personal and namespace.auto_subscribe and identity.user:
            name = f"{prefix}:{identity.user}"
            if context.settings.namespace_of(name) is not None:  # an id may hold what no name may
                wanted.setdefault(name, ServerSubscription())
    asked = []
    for name, sub in wanted.items():
        namespace_of = context.settings.namespace_of(name)
        if namespace_of is None:
            raise bad_request(f"the token names a channel of no configured namespace: {name}")
        if namespace_of.personal and channels.parse(name).rest != identity.user:
            raise bad_request(f"the token names another user's channel: {name}")
        asked.append(
            Subscription(
                name,
                namespace_of,
                positions.get(name),
                info=sub.info,
                data=sub.data,
                server_side=True,
                override=sub.override,
            )
        )
    return asked


async def _connect_by_reading(
    session: Session, context: Context, connecting: Connecting, asked: list[Subscription]
) -> Result:
    await _count_connection(session, context)
    for room in _rooms(asked):
        await context.bans.read(room)
    asked = _without_bans(context, session.identity, asked)
    async with held(context, asked) as pairs:
        wishes = [Wish(channel, one.position) for (channel, _), one in zip(pairs, asked, strict=True)]
        joined = await join(context.hub, context.history, wishes, bounds(context))
        # No wait from the last attempt to the reply: nothing is pushed before it. What was taken back
        # meanwhile, by a ban too, did not meet this session among those of the user.
        _check_revoked(context, session.identity)
        left = [not _is_banned(context, session.identity, one) for one in asked]
        begun = [
            begin(session, context, one, channel, live, where, hit=False)
            for one, (channel, live), where in compress(zip(asked, pairs, joined, strict=True), left)
        ]
        return _welcome(session, context, connecting, list(compress(asked, left)), begun)


def _rooms(asked: list[Subscription]) -> list[str]:
    """Those channels that somebody may be banned from."""
    return [one.channel for one in asked if one.namespace.chat]


def _without_bans(context: Context, identity: Identity, asked: list[Subscription]) -> list[Subscription]:
    return [one for one in asked if not _is_banned(context, identity, one)]


def _is_banned(context: Context, identity: Identity, one: Subscription) -> bool:
    left = context.bans.left(one.channel, identity.user)
    return left > 0 and not moderates(identity, None, one.channel)


async def _count_connection(session: Session, context: Context) -> None:
    """Raises SessionEnded where the user has too many connections, on whatever nodes."""
    most, user = context.settings.limits.connections_per_user, session.identity.user
    if not most or not user:
        return
    if session.outbox.closed:  # in the meantime: nobody would count it out again
        raise SessionEnded(CONNECTION_LIMIT)
    name = context.keys.connections(user)
    context.presence.join(name, session.id, user, b"{}", events=False)
    clients, _ = await context.presence.stats(name)
    if clients > most:
        context.presence.leave(name, session.id, at_once=True)
        raise SessionEnded(CONNECTION_LIMIT)


def _welcome(
    session: Session,
    context: Context,
    connecting: Connecting,
    asked: list[Subscription],
    begun: list[Result],
) -> Result:
    """What the client is told."""
    client = context.settings.client
    result: Result = {
        "client": session.id,
        "version": __version__,
        "ping": client.ping_seconds,
        "pong": True,
        "node": context.node,
    }
    if session.secret:
        result["session"] = session.secret
    if session.identity.expires_at is not None:
        result |= {"expires": True, "ttl": ttl(session.identity.expires_at)}
    if connecting.data is not None:
        result["data"] = orjson.Fragment(connecting.data)
    if asked:
        result["subs"] = {one.channel: result for one, result in zip(asked, begun, strict=True)}
    return result


def refresh(session: Session, context: Context, request: Request) -> Answer:
    """Go on with a new token, of the same user."""
    token = request.required("token")
    try:
        return _refreshed(session, context, _verified(context, token))
    except TokenRefused as exc:
        if exc.reason != "unknown_key":
            raise _refusal(exc) from None
    return _refresh_asking(session, context, token)


async def _refresh_asking(session: Session, context: Context, token: str) -> Result:
    return _refreshed(session, context, await _verified_with_new_keys(context, token))


def _refreshed(session: Session, context: Context, identity: Identity) -> Result:
    if identity.user != session.identity.user:
        context.metrics.auth_failures.labels("wrong_user").inc()
        raise SessionEnded(INVALID_TOKEN)
    session.identity = identity
    session.expiries_changed()
    result: Result = {"client": session.id, "version": __version__}
    if identity.expires_at is not None:
        result |= {"expires": True, "ttl": ttl(identity.expires_at)}
    return result
