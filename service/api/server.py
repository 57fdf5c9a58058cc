"""The server API, on the admin port: `POST /api/<method>` with `X-API-Key` (docs/api.md)."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from service.api.body import Refused, json_object
from service.channels import Namespace
from service.chat.chat import Chat
from service.chat.rpc import METHODS
from service.config import Settings
from service.errors import (
    CLOSE_CODES,
    FORCED,
    MAX_REASON_BYTES,
    CommandFailed,
    ConfigError,
    ReplyError,
    Unavailable,
    bad_request,
    internal,
    unknown_channel,
)
from service.identity.identity import Action
from service.identity.keys import read
from service.request import Request
from service.sections import ApiSettings
from service.streams.control import Control

logger = logging.getLogger(__name__)

Result = dict[str, Any]

#: Bytes of the largest request.
MAX_BYTES = 1 << 20

#: Who acts in chat, where a call does not say.
SERVER_USER = "server"


class Application:
    """The application as a caller of chat commands: it may do everything.

    Args:
        user: in whose name it acts.
    """

    def __init__(self, settings: Settings, user: str) -> None:
        self._settings = settings
        self.user = user

    def info(self, channel: str) -> bytes:
        """Who acts, as others see it."""
        return orjson.dumps({"user": self.user})

    def allowed(self, channel: str, action: Action) -> Namespace:
        """The channel's namespace; ReplyError 102 where there is none."""
        namespace = self._settings.namespace_of(channel)
        if namespace is None:
            raise unknown_channel()
        return namespace

    def moderates(self, channel: str) -> bool:
        """It does, in every room."""
        return True


def api_route(settings: Settings, control: Control, chat: Chat) -> Route:
    """The route of all methods.

    Raises:
        ConfigError: as `api_keys`.
    """
    keys = api_keys(settings.api)

    async def disconnect(request: Request) -> Result:
        """End a user's sessions, or one of them."""
        command: dict[str, Any] = {"command": "disconnect", "user": request.required("user")}
        if client := request.text("client"):
            command["client"] = client
        code = request.integer("code") or FORCED.code
        if code not in CLOSE_CODES:
            raise bad_request(f"code must be an integer from {CLOSE_CODES[0]} to {CLOSE_CODES[-1]}")
        reason = request.text("reason") or FORCED.reason
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise bad_request(f"reason has at most {MAX_REASON_BYTES} bytes")
        await control.send(command | {"code": code, "reason": reason})
        return {}

    async def unsubscribe(request: Request) -> Result:
        """End a user's subscriptions to a channel."""
        channel = request.text("channel")
        if settings.namespace_of(channel) is None:
            raise unknown_channel()
        await control.send({"command": "unsubscribe", "user": request.required("user"), "channel": channel})
        return {}

    async def revoke(request: Request) -> Result:
        """Make void all tokens of a user that were issued up to an instant, now if not told."""
        before = request.integer("before_ms") if request.has("before_ms") else None
        return {"before_ms": await control.revoke(request.required("user"), before)}

    # A mistyped `client` would end all sessions of the user, a mistyped `before_ms` void all tokens.
    methods: dict[str, tuple[Callable[[Request], Awaitable[Result]], tuple[str, ...]]] = {
        "disconnect": (disconnect, ("user", "client", "code", "reason")),
        "unsubscribe": (unsubscribe, ("user", "channel")),
        "revoke": (revoke, ("user", "before_ms")),
    }

    async def call(method: str, request: Request) -> Result:
        if method in METHODS:
            caller = Application(settings, request.text("as_user") or SERVER_USER)
            return await METHODS[method](chat, caller, request)
        handler, parameters = methods[method]
        for name in request.names():
            if name not in parameters:
                raise bad_request(f"no parameter {name[:50]!r}; there are {', '.join(parameters)}")
        return await handler(request)

    async def endpoint(http: HttpRequest) -> Response:
        method = http.path_params["method"]
        given = http.headers.get("x-api-key", "").encode()
        if sum(hmac.compare_digest(given, key) for key in keys) == 0:  # all of them: the time tells nothing
            why = (
                "X-API-Key is missing or unknown" if keys else "the API is off: no key is configured in [api]"
            )
            return _answer(401, {"error": {"code": 101, "message": why}})
        if method not in METHODS and method not in methods:
            allowed = ", ".join(sorted([*METHODS, *methods]))
            return _answer(404, {"error": {"code": 104, "message": f"no such method; there are {allowed}"}})
        try:
            fields = await json_object(http, MAX_BYTES)
            return _answer(200, {"result": await call(method, Request(fields))})
        except Refused as exc:
            return _answer(200, {"error": bad_request(exc.why).body()})
        except ReplyError as exc:
            return _answer(200, {"error": exc.body()})
        except (Unavailable, CommandFailed) as exc:
            logger.warning("a call of %s failed: %s", method, exc)
            return _answer(503, {"error": internal().body()})

    return Route("/api/{method}", endpoint, methods=["POST"])


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


def _answer(status: int, body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
