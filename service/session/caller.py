"""What handlers need of the session that asks, and what they ask of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

import orjson

from service import channels
from service.channels import Namespace
from service.errors import Unsubscribed, too_many_requests, unknown_channel
from service.hub.hub import Channel
from service.hub.outbox import Outbox
from service.identity.identity import Action, Identity
from service.identity.permissions import permitted, refusal
from service.session.context import Context, Detail

Result = dict[str, Any]

#: A handler answers with a result, or with a coroutine that will.
Answer = Result | Coroutine[None, None, Result]


class Session(Protocol):
    """The session that asks."""

    id: str
    identity: Identity
    #: What the client sends commands under that come by other connections; "": none do.
    secret: str
    outbox: Outbox
    subscriptions: dict[str, Channel]
    details: dict[str, Detail] | None
    #: Subscriptions under way.
    joining: int

    def leave(self, name: str, *, at_once: bool = True) -> None:
        """End a subscription; fine if there is none."""

    def take_away(self, channel: str, why: Unsubscribed) -> None:
        """End a subscription by the server's will."""

    def expiries_changed(self) -> None:
        """The identity or a detail was replaced."""


class Caller(NamedTuple):
    """A session as the rest of the node sees it: who it is, and what it may do."""

    session: Session
    context: Context

    @property
    def user(self) -> str:
        """The application's id of the user; "" for anybody."""
        return self.session.identity.user

    def detail(self, channel: str) -> Detail | None:
        """What is particular about its subscription to a channel."""
        return None if self.session.details is None else self.session.details.get(channel)

    def info(self, channel: str) -> bytes:
        """Who the client is, as others see it in a channel: a JSON object."""
        detail = self.detail(channel)
        return client_info(self.session, None if detail is None else detail.info)

    def allowed(self, channel: str, action: Action) -> Namespace:
        """The channel's namespace.

        Raises:
            ReplyError: 102 no such namespace, 103 not allowed.
        """
        subscribed = self.session.subscriptions.get(channel)
        namespace = (
            self.context.settings.namespace_of(channel) if subscribed is None else subscribed.namespace
        )
        if namespace is None:
            raise unknown_channel()
        if not self._permitted(namespace, channel, action):
            raise refusal(self.session.identity, namespace, action)
        return namespace

    def moderates(self, channel: str) -> bool:
        """Whether a token makes it an owner of the room."""
        namespace = self.context.settings.namespace_of(channel)
        return namespace is not None and self._permitted(namespace, channel, "moderate")

    def _permitted(self, namespace: Namespace, channel: str, action: Action) -> bool:
        detail = self.detail(channel)
        grant = None if detail is None else detail.grant
        return permitted(self.session.identity, grant, namespace, channel, action)

    async def spend_publication(self, channel: str, namespace: Namespace) -> None:
        """Account for a publication.

        Raises:
            ReplyError: 111, the user publishes too often in this namespace, on whatever nodes.
            Unavailable, CommandFailed: as `Rates.take`.
        """
        if not namespace.publish_rate:
            return
        who = self.user or self.session.id
        label = channels.label(channel)
        wait = await self.context.rates.take(label, who, namespace.publish_rate, namespace.publish_burst)
        if wait:
            raise too_many_requests(wait)


def client_info(session: Session, chan_info: bytes | None = None) -> bytes:
    """Who a client is: a JSON object of `user`, `client`, `conn_info`, `chan_info`."""
    identity = session.identity
    info: dict[str, Any] = {"user": identity.user} if identity.user else {}
    info["client"] = session.id
    if identity.info is not None:
        info["conn_info"] = orjson.Fragment(identity.info)
    if chan_info is not None:
        info["chan_info"] = orjson.Fragment(chan_info)
    return orjson.dumps(info)
