"""What the client tells and raises.

ClientError
├── ConnectionFailed   no connection, or none any more
├── Refused            the server answered a command with an error
└── Disconnected       the server ended the session for good
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.errors import StreamgateError


class ClientError(StreamgateError):
    """The root of what this client raises."""


class ConnectionFailed(ClientError):
    """The server cannot be reached, or the connection ended before the answer came."""


class Refused(ClientError):
    """The server answered a command with an error."""

    def __init__(self, code: int, message: str, *, temporary: bool) -> None:
        super().__init__(f"{message} (error {code})")
        self.code = code
        self.message = message
        self.temporary = temporary or code < 100 or code == 109


class Disconnected(ClientError):
    """The server ended the session for good; `code` says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server ended the connection: {reason or 'no reason given'} ({code})")
        self.code = code
        self.reason = reason


class Position(NamedTuple):
    """Where a client is in a channel."""

    offset: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Publication:
    """Something was published. `raw` is the whole object as it came."""

    channel: str
    data: Any
    offset: int
    tags: Mapping[str, str]
    info: Mapping[str, Any] | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is up."""

    client: str


@dataclass(frozen=True, slots=True)
class Connecting:
    """The connection was lost; the next attempt is `delay` seconds away."""

    code: int
    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription is up. A gap is `was_recovering` without `recovered`."""

    channel: str
    position: Position | None
    was_recovering: bool
    recovered: bool


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A subscription was ended by the server: for good where `code` is below 2500."""

    channel: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The server cannot subscribe now; it is asked again."""

    channel: str
    code: int
    reason: str


Event = Publication | Connected | Connecting | Subscribed | Unsubscribed | Waiting
