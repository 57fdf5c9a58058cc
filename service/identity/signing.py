"""Making tokens: for development and for the demo. Elsewhere the application makes them."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import orjson

from service.sections import TokenSettings


def signed(settings: TokenSettings, claims: dict[str, Any], secret: bytes) -> str:
    """A token of these claims for a node with these settings: HS256, with its audience and issuer."""
    if settings.audience:
        claims = {**claims, "aud": settings.audience}
    if settings.issuer:
        claims = {**claims, "iss": settings.issuer}
    # By hand: PyJWT would warn on stderr of secrets below 32 bytes, which a node accepts.
    message = b".".join(_encoded(orjson.dumps(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (message + b"." + _encoded(hmac.digest(secret, message, "sha256"))).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
