"""Everything that can go wrong, in one place.

    StreamgateError
    ├── ConfigError          a setting is wrong; the process does not start
    ├── Unavailable          Redis cannot answer now; the same call may work later
    ├── CommandFailed        Redis answered with an error
    ├── UndeliverableEntry   a stream entry that no client can be given
    ├── ReplyError           what a client command is answered with (docs/protocol.md, "Errors")
    └── SessionEnded         a command that ends the session

`Disconnect` is not an exception: it names why a session ends. The range of its code tells
the client what to do (docs/protocol.md, "Closing"): 3000-3499 and 4000-4499 reconnect,
3500-3999 and 4500-4999 are terminal.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class StreamgateError(Exception):
    """The root of all errors this package raises on purpose."""


class ConfigError(StreamgateError):
    """A setting is wrong. The text names the key, what was read and what is allowed."""


class Unavailable(StreamgateError):
    """Redis cannot be reached, or did not answer in time. Nothing is known of the command's effect."""


class CommandFailed(StreamgateError):
    """Redis answered a command with an error; the text is Redis' own."""


class UndeliverableEntry(StreamgateError):
    """A stream entry that cannot be turned into a publication; the text says why."""


class ReplyError(StreamgateError):
    """A client's command was refused.

    Args:
        code: as listed in docs/protocol.md, "Errors"; below 100 never used.
        message: what the client is told; holds nothing secret.
        temporary: whether the client may try the same command again.
        retry_after: seconds before that has a chance, where they are known.
    """

    def __init__(
        self, code: int, message: str, *, temporary: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.temporary = temporary
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """What the client is told, as a JSON object."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.temporary:
            body["temporary"] = True
        if self.retry_after is not None:
            body["retry_after"] = round(self.retry_after, 3)
        return body


def internal() -> ReplyError:
    """100: something outside the client's power failed; trying again may help."""
    return ReplyError(100, "internal server error", temporary=True)


def unauthorized() -> ReplyError:
    """101: the client has not shown who it is, and nobody unknown may do anything here."""
    return ReplyError(101, "unauthorized")


def unknown_channel() -> ReplyError:
    """102: the channel's namespace is not configured, or its name breaks the grammar."""
    return ReplyError(102, "unknown channel")


def permission_denied(why: str = "permission denied", retry_after: float | None = None) -> ReplyError:
    """103: this is not allowed to this client; `retry_after` where that ends by itself."""
    return ReplyError(103, why, retry_after=retry_after)


def method_not_found() -> ReplyError:
    """104: the command names no known method."""
    return ReplyError(104, "method not found")


def already_subscribed() -> ReplyError:
    """105: this session has this channel already."""
    return ReplyError(105, "already subscribed")


def limit_exceeded(what: str = "limit exceeded") -> ReplyError:
    """106: a configured limit; `what` names it."""
    return ReplyError(106, what)


def bad_request(what: str = "bad request") -> ReplyError:
    """107: the command's shape or a value in it is wrong; `what` names it."""
    return ReplyError(107, what)


def not_available(what: str = "not available") -> ReplyError:
    """108: the feature is off, or there is nothing of that name; `what` names it."""
    return ReplyError(108, what)


def token_expired() -> ReplyError:
    """109: the client's token has expired; SDKs get a new one and try again."""
    return ReplyError(109, "token expired")


def too_many_requests(retry_after: float, what: str = "too many requests") -> ReplyError:
    """111: a rate; trying again helps after `retry_after` seconds. The text has it for SDKs that drop it."""
    text = f"{what}: wait {math.ceil(retry_after)} s"
    return ReplyError(111, text, temporary=True, retry_after=retry_after)


def unrecoverable_position() -> ReplyError:
    """112: the client asked (flag 2) to be refused rather than to go on with a gap."""
    return ReplyError(112, "unrecoverable position")


def not_found(what: str) -> ReplyError:
    """404: the message that a chat command names is not there (any more)."""
    return ReplyError(404, what)


#: Close codes that the application may have a session ended with.
CLOSE_CODES = range(3000, 5000)

#: Bytes of the longest reason: a close frame has room for no more.
MAX_REASON_BYTES = 123


class Disconnect(NamedTuple):
    """Why a session ends: a close code and a reason of at most `MAX_REASON_BYTES`."""

    code: int
    reason: str


SHUTDOWN = Disconnect(3001, "shutdown")
SERVER_ERROR = Disconnect(3004, "internal server error")
EXPIRED = Disconnect(3005, "expired")
SUBSCRIPTION_ENDED = Disconnect(3006, "subscription expired")
SLOW = Disconnect(3008, "slow")
INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
NO_PONG = Disconnect(3012, "no pong")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_REQUEST = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
FORCED = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT = Disconnect(3504, "connection limit")
INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
TOO_MANY_ERRORS = Disconnect(3509, "too many errors")


class SessionEnded(StreamgateError):
    """A command is not answered: the session is closed."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(*disconnect)
        self.disconnect = disconnect


class Unsubscribed(NamedTuple):
    """Why the server ends a subscription: below 2500 for good; from 2500 the client resubscribes."""

    code: int
    reason: str


FORCED_UNSUBSCRIBE = Unsubscribed(2000, "unsubscribed by the server")
INSUFFICIENT = Unsubscribed(2500, "insufficient state")
SUBSCRIPTION_EXPIRED = Unsubscribed(2501, "expired")
