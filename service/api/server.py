"""The server API, on the admin port: `POST /api/<method>` with `X-API-Key` (docs/api.md)."""

from __future__ import annotations

import hmac

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from service.api.body import Refused, json_body
from service.api.document import document
from service.api.methods import METHODS, Answer, call, unknown_method
from service.api.page import try_page
from service.errors import ConfigError, ReplyError, bad_request
from service.identity.keys import read
from service.request import Request
from service.sections import ApiSettings
from service.session.context import Context

#: Bytes of the largest request.
MAX_BYTES = 1 << 20


class _Endpoint:
    """Answers calls. Plain ASGI: Starlette would answer other methods than POST itself, and not in JSON."""

    def __init__(self, context: Context, keys: list[bytes]) -> None:
        self._context = context
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        status, body = await self._answer(http)
        headers = {"Allow": "POST"} if status == 405 else None
        response = Response(orjson.dumps(body), status, headers, media_type="application/json")
        await response(scope, receive, send)

    async def _answer(self, http: HttpRequest) -> Answer:
        name = http.path_params["method"]
        try:
            self._admit(http, name)
            fields, source = await json_body(http, MAX_BYTES)
        except Refused as exc:
            error = exc.error or bad_request(exc.why)
            known = name if name in METHODS else "unknown"
            self._context.metrics.api_requests.labels(known, str(error.code)).inc()
            return Answer(exc.status, {"error": error.body()})
        return await call(self._context, name, Request(fields, source))

    def _admit(self, http: HttpRequest, name: str) -> None:
        """Raises Refused where a call is not even looked at."""
        given = http.headers.get("x-api-key", "").encode()
        # All of them: the time tells nothing.
        if sum(hmac.compare_digest(given, key) for key in self._keys) == 0:
            missing = "X-API-Key is missing or unknown"
            off = "the API is off: no key is configured in [api]"
            raise Refused(401, error=ReplyError(101, missing if self._keys else off))
        if name not in METHODS:
            raise Refused(404, error=unknown_method())
        if http.method != "POST":
            raise Refused(405, f"the method must be POST, not {http.method[:20]}")
        kind = http.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, f"Content-Type must be application/json, not {kind[:50]!r}")


def api_routes(context: Context) -> list[BaseRoute]:
    """The methods, the document that describes them, and a page to try them.

    Raises:
        ConfigError: as `api_keys`.
    """
    described = orjson.dumps(document(METHODS))

    async def openapi(http: HttpRequest) -> Response:
        return Response(described, media_type="application/json")

    return [
        Route("/api/{method:path}", _Endpoint(context, api_keys(context.settings.api))),
        Route("/openapi.json", openapi),
        Route("/api", try_page),
    ]


def api_keys(settings: ApiSettings) -> list[bytes]:
    """The keys that are accepted; none: the API is off.

    Raises:
        ConfigError: a file cannot be read, or a key is too short.
    """
    keys = [key.get_secret_value().encode() for key in settings.keys]
    keys += [read(f"api.key_files: {path}", path).strip() for path in settings.key_files]
    if any(len(key) < 16 for key in keys):
        raise ConfigError("api: a key has fewer than 16 bytes; allowed: 16 or more, made at random")
    return keys
