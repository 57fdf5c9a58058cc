"""Where a session stands."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """Where a session stands."""

    #: Waiting for `connect`.
    NEW = 0
    #: `connect` is under way; what came behind it waits.
    CONNECTING = 1
    #: `connect` was answered with an error; the client may try again.
    REFUSED = 2
    CONNECTED = 3
    #: A ping was sent, its pong has not come.
    PINGED = 4
    #: A close was sent; whatever comes is passed over.
    CLOSING = 5
    CLOSED = 6
