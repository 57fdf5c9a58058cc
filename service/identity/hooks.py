"""What the application's back end is asked: who a client is, and whether it may do something.

docs/identity.md, "Hooks", has the shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from service.identity import claims as read
from service.identity.hook import Hook
from service.identity.identity import Identity, Override
from service.metrics import Metrics
from service.sections import HookSettings


class ConnectAnswer(NamedTuple):
    """Who a client is, and JSON for the client."""

    identity: Identity
    data: bytes | None = None


class SubscribeAnswer(NamedTuple):
    """A client may subscribe.

    Args:
        info: JSON, shown to others as `chan_info`.
        data: JSON for the client.
        expires_at: Unix seconds after which the subscription ends; None: never.
    """

    info: bytes | None = None
    data: bytes | None = None
    override: Override = Override()
    expires_at: float | None = None


class Hooks:
    """The questions that are configured.

    All of them raise ReplyError with what the application answers the client; 100, temporary, where there
    is no usable answer; 108 where no URL is configured. They raise SessionEnded where it wants the client
    to be disconnected.

    Args:
        clock: seconds, monotonic.

    Raises:
        ConfigError: a URL or the secret cannot be used.
    """

    def __init__(
        self, settings: HookSettings, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        kept = settings.cache_seconds
        self._connect = Hook("connect", settings.connect_url, settings, metrics, _connect, kept, clock)
        self._subscribe = Hook(
            "subscribe", settings.subscribe_url, settings, metrics, _subscribe, kept, clock
        )
        self._publish = Hook("publish", settings.publish_url, settings, metrics, _publish, 0, clock)

    async def connect(
        self,
        client: str,
        name: str,
        version: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> ConnectAnswer:
        """Who a client without token is.

        Args:
            client: the session's id.
            name: of the client's software, as it says.
            version: of that.
            data: JSON that the client sent.
            headers: of the handshake, those the application is to see.
        """
        question: dict[str, Any] = {"name": name, "version": version, "data": orjson.Fragment(data)}
        if headers:
            question["headers"] = dict(headers)
        return await self._connect.ask(client, question)

    async def subscribe(self, client: str, identity: Identity, channel: str, data: bytes) -> SubscribeAnswer:
        """Whether a client may subscribe.

        Args:
            data: JSON that it sent with the request.
        """
        return await self._subscribe.ask(client, _about(identity, channel, data))

    async def publish(self, client: str, identity: Identity, channel: str, data: bytes) -> bytes:
        """What is published instead of `data`, both JSON; `data` itself where nothing is to be changed."""
        return await self._publish.ask(client, _about(identity, channel, data)) or data

    async def aclose(self) -> None:
        """Close all connections."""
        for hook in (self._connect, self._subscribe, self._publish):
            await hook.aclose()


def _about(identity: Identity, channel: str, data: bytes) -> dict[str, Any]:
    question = {"user": identity.user, "channel": channel, "data": orjson.Fragment(data)}
    if identity.meta is not None:
        question["meta"] = orjson.Fragment(identity.meta)
    return question


def _connect(result: read.Claims) -> ConnectAnswer:
    identity = Identity(
        user=read.text(result, "user"),
        info=read.payload(result, "info"),
        expires_at=read.moment(result, "expire_at") or None,
        # As good as a token made now: what was revoked before is known to whoever answered.
        issued_at=time.time(),
        capabilities=read.capabilities(result),
        subscriptions=read.subscriptions(result),
        meta=read.payload(result, "meta"),
    )
    return ConnectAnswer(identity, read.payload(result, "data"))


def _subscribe(result: read.Claims) -> SubscribeAnswer:
    return SubscribeAnswer(
        read.payload(result, "info"),
        read.payload(result, "data"),
        read.override(result),
        read.moment(result, "expire_at") or None,
    )


def _publish(result: read.Claims) -> bytes | None:
    return read.payload(result, "data")
