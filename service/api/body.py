"""What a request brings: a JSON object, within a bound."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from service.errors import ReplyError


class Refused(Exception):
    """A request is not carried out.

    Args:
        status: of HTTP.
        why: what the client is told.
        error: the same with a code, where there is a particular one.
    """

    def __init__(self, status: int, why: str = "", *, error: ReplyError | None = None) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.error = error


async def json_object(http: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a request's body; {} where there is none.

    Raises:
        Refused: as `json_body`.
    """
    fields, _ = await json_body(http, limit)
    return fields


async def json_body(http: Request, limit: int) -> tuple[dict[str, Any], bytes]:
    """The JSON object of a request's body, and its text; {} where there is none.

    Args:
        limit: bytes of the largest body; no more are read.

    Raises:
        Refused: 413 too large; 400 no JSON object, or the client went away before all of it had come.
    """
    body = bytearray()
    try:
        async for chunk in http.stream():
            body += chunk
            if len(body) > limit:
                raise Refused(413, f"a request has at most {limit} bytes")
        fields = orjson.loads(body or b"{}")
    except (ValueError, ClientDisconnect):
        raise Refused(400, "the request is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused(400, "the request is not a JSON object")
    return fields, bytes(body)
