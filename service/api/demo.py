"""`POST /demo/token`: visitors of the demo page sign in by any name. There where the page is, only."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.body import Refused, json_object
from service.config import Settings
from service.identity.keys import secrets_of
from service.identity.signing import signed

logger = logging.getLogger(__name__)

#: Seconds that a token is good for; the page fetches the next one.
LIFETIME = 3600

#: Bytes of the largest request: a name of 24 characters and some to spare.
MAX_BYTES = 1024

#: Characters of a name.
MAX_NAME = 24

#: What a moderator of the demo may do beyond its visitors.
MODERATES = [{"channels": ["chat:*"], "match": "wildcard", "allow": ["mod"]}]

#: (Origin, Host, allowed origins) to whether a page of that origin may ask.
OriginCheck = Callable[[str | None, str | None, tuple[str, ...]], bool]


def demo_token_route(settings: Settings, origin_allowed: OriginCheck) -> Route:
    """The route. Whoever gets here may be anybody: the demo has no accounts.

    Raises:
        ConfigError: a file of secrets cannot be read.
    """
    secrets = secrets_of(settings.tokens)
    if secrets:
        logger.warning("server.demo_page is on: anybody is given a token for any name, moderators' too")

    async def token(http: Request) -> Response:
        headers = http.headers
        try:
            if not origin_allowed(
                headers.get("origin"), headers.get("host"), settings.server.allowed_origins
            ):
                raise Refused(403, "this origin may not ask for tokens")
            if not secrets:
                raise Refused(501, "nobody can sign in: the node has no secret (tokens.hmac_secrets)")
            claims = _claims(await json_object(http, MAX_BYTES))
        except Refused as exc:
            return _answer(exc.status, {"error": exc.why})
        made = signed(settings.tokens, claims, secrets[0][1])
        return _answer(200, {"token": made, "user": claims["sub"]})

    return Route("/demo/token", token, methods=["POST"])


def _claims(asked: dict[str, Any]) -> dict[str, Any]:
    name, moderator = asked.get("name"), asked.get("moderator", False)
    if not isinstance(name, str) or not isinstance(moderator, bool):
        raise Refused(400, "name must be a string, moderator a boolean")
    name = " ".join(name.split())
    if len(name) > MAX_NAME or not name.isprintable():
        raise Refused(400, f"a name has at most {MAX_NAME} characters that can be printed")
    user = re.sub(r"[\W_]+", "-", name.casefold()).strip("-")
    if not user:
        raise Refused(400, "a name has at least one letter or digit")
    now = int(time.time())
    claims: dict[str, Any] = {"sub": user, "iat": now, "exp": now + LIFETIME, "info": {"name": name}}
    return claims | ({"caps": MODERATES} if moderator else {})


def _answer(status: int, body: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
