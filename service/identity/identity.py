"""Who a client is: what its token, or the application's back end, says of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

#: What can be done with a channel. `moderate`: all that a room's owner may do (docs/chat.md).
Action = Literal["subscribe", "publish", "history", "presence", "moderate"]


class Capability(NamedTuple):
    """Actions on some channels, granted by a token.

    Args:
        channels: names; one that ends in `*` stands for all that begin so.
    """

    channels: tuple[str, ...]
    actions: frozenset[Action]

    def covers(self, channel: str, action: Action) -> bool:
        """Whether it grants this."""
        return action in self.actions and any(
            channel.startswith(name[:-1]) if name.endswith("*") else channel == name for name in self.channels
        )


class Override(NamedTuple):
    """What a token says otherwise than the namespace; None: nothing.

    Args:
        presence: whether the client is shown among those who are present.
        join_leave: whether it gets join and leave pushes, asked for or not.
    """

    presence: bool | None = None
    join_leave: bool | None = None


class ServerSubscription(NamedTuple):
    """A channel that the client is subscribed to when it connects.

    Args:
        info: JSON, shown to others as `chan_info`.
        data: JSON, given to the client with the subscription.
    """

    info: bytes | None = None
    data: bytes | None = None
    override: Override = Override()


class Identity:
    """Who a client is. Never changed: a refresh replaces it.

    Args:
        user: the application's id; "" for anybody.
        info: JSON, shown to others as `conn_info`.
        expires_at: Unix seconds after which the connection ends; None: never.
        issued_at: Unix seconds; tokens can be revoked by it. None: not told.
        capabilities: what the token grants beyond the namespaces' rules.
        subscriptions: server-side subscriptions by channel.
        meta: JSON that only the application's back end sees (hooks).
    """

    __slots__ = ("capabilities", "expires_at", "info", "issued_at", "meta", "subscriptions", "user")

    def __init__(
        self,
        user: str,
        info: bytes | None = None,
        expires_at: float | None = None,
        issued_at: float | None = None,
        capabilities: tuple[Capability, ...] = (),
        subscriptions: Mapping[str, ServerSubscription] = MappingProxyType({}),
        meta: bytes | None = None,
    ) -> None:
        self.user = user
        self.info = info
        self.expires_at = expires_at
        self.issued_at = issued_at
        self.capabilities = capabilities
        self.subscriptions = subscriptions
        self.meta = meta

    def has(self, channel: str, action: Action) -> bool:
        """Whether a capability grants this."""
        return any(capability.covers(channel, action) for capability in self.capabilities)


#: Anybody: a client that has not said who it is.
ANONYMOUS = Identity("")


class Grant(NamedTuple):
    """What a subscription token grants, for one channel.

    Args:
        info: JSON, shown to others as `chan_info`.
        expires_at: Unix seconds after which the subscription ends; None: never.
        issued_at: as for `Identity`.
        actions: what it allows beside subscribing.
    """

    info: bytes | None = None
    expires_at: float | None = None
    issued_at: float | None = None
    override: Override = Override()
    actions: frozenset[Action] = frozenset(("subscribe", "history", "presence"))
