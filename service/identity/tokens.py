"""Tokens (JWT): whether one is good, and what it says of a client or allows it."""

from __future__ import annotations

import asyncio
import binascii
import logging
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import orjson

from service.errors import StreamgateError
from service.identity import claims as read
from service.identity import keys
from service.identity.identity import Grant, Identity
from service.identity.jwks import Jwks
from service.identity.keys import PUBLIC_ALGORITHMS
from service.metrics import Metrics
from service.sections import TokenSettings
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Bytes of the largest token.
MAX_BYTES = 8192

#: Why a token is refused.
Reason = Literal[
    "malformed",
    "none",
    "algorithm",
    "unknown_key",
    "signature",
    "wrong_kind",
    "audience",
    "issuer",
    "wrong_user",
    "wrong_channel",
    "not_yet_valid",
    "expired",
    "claims",
]

# base64url to base64; what only base64 has becomes what neither has.
_BASE64URL = bytes.maketrans(b"-_+/=", b"+/!!!")

T = TypeVar("T")


class TokenRefused(StreamgateError):
    """A token is no good. The text says what is wrong, and holds nothing of the token.

    Args:
        reason: in a word, also the label of the metric auth_failures.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class TokenExpired(TokenRefused):
    """A token was good and has expired: the client is answered 109, and gets a new one."""

    def __init__(self, text: str) -> None:
        super().__init__("expired", text)


class TokenVerifier:
    """Reads tokens, once their signature and times are found good.

    Args:
        clock: Unix seconds.

    Raises:
        ConfigError: a key cannot be read or used.
    """

    def __init__(
        self, settings: TokenSettings, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._log_limit = OncePer(60.0)
        self._keys = keys.by_algorithm(keys.load(settings))
        self._jwks = Jwks(settings.jwks_url, settings.jwks_seconds, metrics) if settings.jwks_url else None

    def connect(self, token: str) -> Identity:
        """Who the bearer of a connect token is.

        Raises:
            TokenRefused: it is no good; with the reason `unknown_key` one more try may help after `refresh`.
            TokenExpired: it has expired.
        """
        return self._counted(lambda: self._connect(token))

    def subscription(self, token: str, user: str, channel: str) -> Grant:
        """What a subscription token allows this user in this channel.

        Raises:
            TokenRefused: it is no good, or of another user or channel; as for `connect`.
            TokenExpired: it has expired.
        """
        return self._counted(lambda: self._subscription(token, user, channel))

    async def refresh(self) -> None:
        """Fetch the JWKS for a key that is not there, unless that was done moments ago.

        Raises:
            ReplyError: 100, it cannot be fetched: nobody can say whether the token is good.
        """
        if self._jwks is not None:
            await self._jwks.refresh()

    async def run(self) -> None:
        """Keep the keys of the JWKS fresh; never returns."""
        if self._jwks is not None:
            await self._jwks.run()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Close what the JWKS is fetched over."""
        if self._jwks is not None:
            await self._jwks.aclose()

    def _counted(self, check: Callable[[], T]) -> T:
        try:
            return check()
        except TokenRefused as exc:
            self._metrics.auth_failures.labels(exc.reason).inc()
            # What has expired is renewed: nothing is wrong with that.
            if not isinstance(exc, TokenExpired) and self._log_limit.allows(exc.reason):
                logger.info("a token was refused (%s): %s", exc.reason, exc)
            raise

    def _connect(self, token: str) -> Identity:
        claims = self._open(token)
        if "channel" in claims:
            raise TokenRefused("wrong_kind", "a subscription token; allowed here: a connect token")
        try:
            self._check_party(claims)
            expires_at = self._check_times(claims)
            return Identity(
                user=read.text(claims, "sub"),
                info=read.payload(claims, "info"),
                expires_at=expires_at,
                issued_at=read.moment(claims, "iat"),
                capabilities=read.capabilities(claims),
                subscriptions=read.subscriptions(claims),
                meta=read.payload(claims, "meta"),
            )
        except ValueError as exc:
            raise TokenRefused("claims", str(exc)) from None

    def _subscription(self, token: str, user: str, channel: str) -> Grant:
        claims = self._open(token)
        if "channel" not in claims:
            raise TokenRefused("wrong_kind", "a connect token; allowed here: a subscription token")
        try:
            self._check_party(claims)
            if read.text(claims, "sub") != user:
                raise TokenRefused("wrong_user", "the token is another user's")
            if read.text(claims, "channel") != channel:
                raise TokenRefused("wrong_channel", "the token is for another channel")
            expires_at = self._check_times(claims)
            grant = Grant(
                info=read.payload(claims, "info"),
                expires_at=expires_at,
                issued_at=read.moment(claims, "iat"),
                override=read.override(claims),
            )
            actions = read.actions(claims)
            return grant if actions is None else grant._replace(actions=actions | {"subscribe"})
        except ValueError as exc:
            raise TokenRefused("claims", str(exc)) from None

    def _open(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature is good."""
        if len(token) > MAX_BYTES:
            raise TokenRefused("malformed", f"a token of {len(token)} bytes; allowed: {MAX_BYTES}")
        try:
            message, header, claims, signature = _split(token)
        except ValueError:
            raise TokenRefused("malformed", "not a signed JWT: three parts of base64url with JSON") from None
        # Extensions that must be understood (RFC 7515, 4.1.11); we know none.
        if "crit" in header:
            raise TokenRefused("malformed", "the header has crit; no extensions are known")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(kid, str | None):
            raise TokenRefused("malformed", "alg and kid of the header must be strings")
        if algorithm.lower() == "none":
            raise TokenRefused("none", "the token is not signed")
        self._verify(algorithm, kid, message, signature)
        return claims

    def _verify(self, algorithm: str, kid: str | None, message: bytes, signature: bytes) -> None:
        own = self._keys.get(algorithm, ())
        fetched = self._jwks.find(algorithm, kid) if self._jwks else []
        for key in (*own, *fetched):
            if key.verifies(algorithm, message, signature):
                return
        if self._jwks and not fetched and algorithm in PUBLIC_ALGORITHMS:
            raise TokenRefused("unknown_key", "the token's key is not (yet) known")
        if not own and not fetched:
            allowed = ", ".join(sorted(self._keys)) or "none, as no key is configured"
            raise TokenRefused("algorithm", f"no key is for the token's algorithm; allowed: {allowed}")
        raise TokenRefused("signature", "the signature is by none of the known keys")

    def _check_party(self, claims: dict[str, Any]) -> None:
        audience, issuer = self._settings.audience, self._settings.issuer
        if audience:
            named = claims.get("aud")
            if audience not in (named if isinstance(named, list) else [named]):
                raise TokenRefused("audience", "aud does not name this service")
        if issuer and claims.get("iss") != issuer:
            raise TokenRefused("issuer", "iss is not the configured issuer")

    def _check_times(self, claims: dict[str, Any]) -> float | None:
        """When what the token allows ends."""
        now, leeway = self._clock(), self._settings.leeway_seconds
        for name in ("nbf", "iat"):
            start = read.moment(claims, name)
            if start is not None and start > now + leeway:
                raise TokenRefused("not_yet_valid", f"{name} is in the future")
        end, expires_at = read.moment(claims, "exp"), read.expiry(claims)
        if (end is not None and end <= now - leeway) or (
            expires_at is not None and expires_at <= now - leeway
        ):
            raise TokenExpired("the token has expired")
        return expires_at


def _split(token: str) -> tuple[bytes, dict[str, Any], dict[str, Any], bytes]:
    """What is signed, header, claims and signature.

    Raises:
        ValueError: it is no JWT.
    """
    message, _, signature = token.encode("ascii").rpartition(b".")
    header, claims = message.split(b".")
    found = orjson.loads(_decoded(header)), orjson.loads(_decoded(claims))
    if not all(isinstance(part, dict) for part in found):
        raise ValueError
    return message, *found, _decoded(signature)


def _decoded(part: bytes) -> bytes:
    return binascii.a2b_base64(part.translate(_BASE64URL) + b"=" * (-len(part) % 4), strict_mode=True)
