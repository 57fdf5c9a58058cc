"""What concerns a user's sessions, on all nodes: disconnect, subscribe, unsubscribe, refresh, revoke."""

from __future__ import annotations

from typing import Any

import orjson

from service import channels
from service.api.application import namespace_of, order
from service.api.spec import AnyJson, Flag, Integer, Method, Nested, Result, Text, Texts
from service.errors import CLOSE_CODES, FORCED, MAX_REASON_BYTES, bad_request
from service.request import Request
from service.session.context import Context

#: Sessions that may be spared in one call.
MAX_SPARED = 100


async def disconnect(context: Context, request: Request) -> Result:
    """End a user's sessions, or one of them."""
    nested = request.nested("disconnect")
    if nested is not None and (request.has("code") or request.has("reason")):
        raise bad_request("either disconnect or code and reason, not both")
    why = request if nested is None else nested
    code = why.integer("code") or FORCED.code
    if code not in CLOSE_CODES:
        raise bad_request(f"code must be an integer from {CLOSE_CODES[0]} to {CLOSE_CODES[-1]}")
    reason = why.text("reason") or FORCED.reason
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise bad_request(f"reason has at most {MAX_REASON_BYTES} bytes")
    command = _of_user("disconnect", request) | {"code": code, "reason": reason}
    if spared := request.strings("whitelist"):
        command["spared"] = spared
    await order(context, command)
    return {}


async def subscribe(context: Context, request: Request) -> Result:
    """Subscribe a user's sessions to a channel."""
    channel, user = request.required("channel"), request.required("user")
    if namespace_of(context.settings, channel).personal and channels.parse(channel).rest != user:
        raise bad_request("channel is another user's: in this namespace the user's id follows the prefix")
    given = {part: orjson.Fragment(request.payload(part)) for part in ("info", "data") if request.has(part)}
    await order(context, _of_user("subscribe", request) | {"channel": channel} | given)
    return {}


async def refresh(context: Context, request: Request) -> Result:
    """Say anew when a user's sessions end."""
    command = _of_user("refresh", request)
    if request.flag("expired"):
        command["expired"] = True
    elif expire_at := request.integer("expire_at"):
        command["expire_at"] = expire_at
    else:
        raise bad_request("expired, true, or expire_at, Unix seconds, is required")
    await order(context, command)
    return {}


async def unsubscribe(context: Context, request: Request) -> Result:
    """End a user's subscriptions to a channel."""
    channel = request.required("channel")
    namespace_of(context.settings, channel)
    await order(context, _of_user("unsubscribe", request) | {"channel": channel})
    return {}


async def revoke(context: Context, request: Request) -> Result:
    """Make void all tokens of a user that were issued up to an instant, now if not told."""
    before = request.integer("before_ms") if request.has("before_ms") else None
    return {"before_ms": await context.control.revoke(request.required("user"), before)}


def _of_user(name: str, request: Request) -> dict[str, Any]:
    command: dict[str, Any] = {"command": name, "user": request.required("user")}
    return command | ({"client": request.text("client")} if request.text("client") else {})


_USER = Text(about="The user's id.", required=True)
_CLIENT = Text(about="This session only.")
_CODE = Integer(about="3000 to 4999; 0 or missing: 3503.", most=CLOSE_CODES[-1])
_REASON = Text(about=f"At most {MAX_REASON_BYTES} bytes.", least=0, most=MAX_REASON_BYTES)

METHODS: dict[str, Method] = {
    "disconnect": Method(
        "End a user's sessions.",
        {
            "user": _USER,
            "client": _CLIENT,
            "whitelist": Texts(about="Not these sessions.", most=MAX_SPARED),
            "code": _CODE,
            "reason": _REASON,
            "disconnect": Nested(
                about="Code and reason, as Centrifugo's clients send them.",
                parameters={"code": _CODE, "reason": _REASON},
            ),
        },
        disconnect,
    ),
    "unsubscribe": Method(
        "End a user's subscriptions to a channel.",
        {"user": _USER, "channel": Text(about="The channel.", required=True), "client": _CLIENT},
        unsubscribe,
    ),
    "subscribe": Method(
        "Subscribe a user's sessions to a channel, as a token does when they connect.",
        {
            "user": _USER,
            "channel": Text(about="The channel.", required=True),
            "client": _CLIENT,
            "info": AnyJson(about="Shown to others as chan_info."),
            "data": AnyJson(about="Given to the client with the subscription."),
        },
        subscribe,
    ),
    "refresh": Method(
        "Have a user's sessions expire, now or at an instant, and not when their tokens say.",
        {
            "user": _USER,
            "client": _CLIENT,
            "expired": Flag(about="Now: they are closed with 3005 and come back with a new token."),
            "expire_at": Integer(about="Unix seconds."),
        },
        refresh,
    ),
    "revoke": Method(
        "Make void all tokens that were issued to a user up to an instant, and end what they began.",
        {"user": _USER, "before_ms": Integer(about="Milliseconds since 1970; missing: now.")},
        revoke,
        {"before_ms": {"type": "integer"}},
    ),
}
