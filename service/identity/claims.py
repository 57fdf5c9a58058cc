"""What tokens and the application's back end say of a client, read with its types checked.

Every function raises ValueError for a value of the wrong type; the text names the claim and what is
allowed, never the value.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import orjson

from service import channels
from service.identity.identity import Action, Capability, Override, ServerSubscription
from service.request import MAX_INTEGER

#: The names of actions in `allow`.
ACTIONS: Mapping[str, Action] = {
    "sub": "subscribe",
    "pub": "publish",
    "hst": "history",
    "prs": "presence",
    "mod": "moderate",
}

Claims = Mapping[str, Any]


def text(claims: Claims, name: str) -> str:
    """A string; "" where it is missing."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    return value


def moment(claims: Claims, name: str) -> float | None:
    """Unix seconds; None where they are missing."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{name} must be a number of Unix seconds from 0 to 2^53 - 1")
    return value


def expiry(claims: Claims) -> float | None:
    """When what the claims allow ends, in Unix seconds: `expire_at`, where 0 is never, or else `exp`."""
    end = moment(claims, "expire_at")
    if end is None:
        end = moment(claims, "exp")
    return end or None


def payload(claims: Claims, name: str) -> bytes | None:
    """JSON on one line: of `b64…`, which is base64 of it, or else of the claim itself; None: neither."""
    encoded = claims.get(f"b64{name}")
    if encoded is None:
        value = claims.get(name)
    else:
        if not isinstance(encoded, str):
            raise ValueError(f"b64{name} must be a string")
        try:
            value = orjson.loads(binascii.a2b_base64(encoded, strict_mode=True))
        except ValueError:
            raise ValueError(f"b64{name} must be base64 of JSON") from None
    if value is None:
        return None
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise ValueError(f"{name} is nested too deeply") from None


def override(claims: Claims) -> Override:
    """`override`: {"presence": {"value": true}}; what we do not know, or always do, is passed over."""
    found = _object(claims, "override")
    forced = _switch(found, "force_push_join_leave")
    return Override(
        presence=_switch(found, "presence"),
        join_leave=_switch(found, "join_leave") if forced is None else forced,
    )


def _switch(claims: Claims, name: str) -> bool | None:
    value = _object(claims, name).get("value")
    if value is not None and not isinstance(value, bool):
        raise ValueError(f'override.{name} must be {{"value": true}} or {{"value": false}}')
    return value


def subscriptions(claims: Claims) -> dict[str, ServerSubscription]:
    """Server-side subscriptions: `channels` by name alone, `subs` with what is special about each."""
    found = {channel: ServerSubscription() for channel in _list(claims, "channels")}
    for channel, options in _object(claims, "subs").items():
        if not isinstance(options, dict):
            raise ValueError("subs must hold an object for each channel")
        try:
            found[channel] = ServerSubscription(
                payload(options, "info"), payload(options, "data"), override(options)
            )
        except ValueError as exc:
            raise ValueError(f"subs: {exc}") from None
    for channel in found:
        _check_channel("channels and subs", channel)
    return found


def capabilities(claims: Claims) -> tuple[Capability, ...]:
    """`caps`: [{"channels": ["chat:*"], "allow": ["pub"], "match": "wildcard"}]."""
    value = claims.get("caps")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("caps must be a list of objects")
    return tuple(_capability(item) for item in value)


def _capability(item: Claims) -> Capability:
    match = item.get("match", "")
    if match not in ("", "exact", "wildcard"):
        raise ValueError('caps: match must be "", "exact" or "wildcard"; there are no regular expressions')
    names = _list(item, "channels")
    for name in names:
        # With any letter in its place it must be a channel's name.
        whole = name[:-1] + "x" if match == "wildcard" and name.endswith("*") else name
        _check_channel(f'caps: channels (match "{match}"; * only with "wildcard", at the end)', whole)
    return Capability(tuple(names), actions(item) or frozenset())


def actions(claims: Claims) -> frozenset[Action] | None:
    """`allow`: a list of sub, pub, hst, prs, mod; None where it is missing."""
    if claims.get("allow") is None:
        return None
    names = _list(claims, "allow")
    if not ACTIONS.keys() >= set(names):
        raise ValueError(f"allow must be a list of some of {', '.join(ACTIONS)}")
    return frozenset(ACTIONS[name] for name in names)


def _check_channel(where: str, channel: str) -> None:
    try:
        channels.parse(channel)
    except ValueError as exc:
        raise ValueError(f"{where}: {exc}") from None


def _list(claims: Claims, name: str) -> list[str]:
    value = claims.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of strings")
    return value


def _object(claims: Claims, name: str) -> Claims:
    value = claims.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value
