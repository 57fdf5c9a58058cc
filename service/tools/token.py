"""`streamgate token`: a signed token, to try things out without the application that would make it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from service.channels import parse
from service.errors import StreamgateError
from service.identity import claims as read
from service.identity import keys
from service.identity.signing import signed
from service.sections import TokenSettings

#: Seconds of the units of `--expires`.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class TokenFailed(StreamgateError):
    """A token cannot be made; the text names the option and what is allowed."""


def make(
    settings: TokenSettings,
    user: str,
    *,
    channel: str | None,
    expires: str,
    info: str | None,
    allow: Sequence[str],
    secret_file: Path | None,
) -> str:
    """A token that a node with these settings accepts, signed with HS256.

    Args:
        user: "" for anybody.
        channel: of a subscription token; None: a connect token.
        expires: such as `1h`, or `never`.
        info: JSON, shown to others.
        allow: what it grants: of a connect token `CHANNEL=ACTION,…`, of a subscription token `ACTION,…`.
        secret_file: holds the secret that signs; None: the first of the settings.

    Raises:
        TokenFailed: an option is wrong, or there is no secret.
        ConfigError: the file with the secret cannot be read.
    """
    secret = _secret(settings, secret_file)
    now = int(time.time())
    claims: dict[str, Any] = {"sub": user, "iat": now}
    seconds = _seconds(expires)
    if seconds is not None:
        claims["exp"] = now + seconds
    if info is not None:
        try:
            claims["info"] = orjson.loads(info)
        except orjson.JSONDecodeError as exc:
            raise TokenFailed(f"--info: not valid JSON: {exc}; a text needs its quotes: '\"Ann\"'") from None
    if channel is not None:
        try:
            parse(channel)
        except ValueError as exc:
            raise TokenFailed(f"--channel: read {channel!r}; allowed: {exc}") from None
        claims["channel"] = channel
    try:
        claims |= _allowed(channel, allow)
    except ValueError as exc:
        raise TokenFailed(f"--allow: {exc}") from None
    return signed(settings, claims, secret)


def _secret(settings: TokenSettings, path: Path | None) -> bytes:
    if path is not None:
        name = f"--secret-file: {path}"
        found = [(name, keys.read(name, path).rstrip(b"\r\n"))]
    else:
        found = keys.secrets_of(settings)
    if not found:
        raise TokenFailed(
            "no secret to sign with; give one by --secret-file FILE, or to the node as well: "
            "tokens.hmac_secrets in the settings, or STREAMGATE_TOKENS__HMAC_SECRETS='[\"…\"]' "
            "(`openssl rand -hex 32` makes one)"
        )
    name, secret = found[0]
    try:
        keys.secret_key(secret)
    except ValueError as exc:
        raise TokenFailed(f"{name}: {exc}") from None
    return secret


def _seconds(text: str) -> int | None:
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    if not match:
        raise TokenFailed(f"--expires: read {text!r}; allowed: a number with s, m, h or d (1h), or never")
    return int(match[1]) * _UNITS[match[2]]


def _allowed(channel: str | None, allow: Sequence[str]) -> dict[str, Any]:
    """The claims that grant it; raises ValueError for what a node would refuse."""
    if not allow:
        return {}
    claims: dict[str, Any]
    if channel is not None:
        claims = {"allow": [action for text in allow for action in text.split(",")]}
        read.actions(claims)
    else:
        claims = {"caps": [_capability(text) for text in allow]}
        read.capabilities(claims)
    return claims


def _capability(text: str) -> dict[str, Any]:
    name, equals, actions = text.rpartition("=")
    if not equals:
        raise ValueError(f"read {text!r}; allowed: CHANNEL=ACTION,…, such as 'chat:*=pub,hst'")
    match = "wildcard" if name.endswith("*") else "exact"
    return {"channels": [name], "allow": actions.split(","), "match": match}
