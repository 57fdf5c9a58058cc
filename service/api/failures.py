"""What a call that fails is answered with."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from service.errors import CommandFailed, ReplyError, StreamgateError, internal, not_available

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """The status of HTTP, and the error as a JSON object."""

    status: int
    body: dict[str, Any]


def failure(exc: StreamgateError) -> Failure:
    """Of an error that was raised on purpose: what is asked cannot be done (200), or not now (503)."""
    if isinstance(exc, ReplyError):
        return Failure(200, exc.body())
    if isinstance(exc, CommandFailed) and "WRONGTYPE" in str(exc):
        return Failure(200, not_available("a key of the channel holds something else").body())
    logger.warning("a call of the API failed: %s", exc)
    return Failure(503, internal().body())
