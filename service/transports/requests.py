"""What requests bring, and what they are refused with."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

#: Seconds that a client has for the body of a request.
BODY_SECONDS = 10.0


class Refused(Exception):
    """A request is not carried out.

    Args:
        status: of HTTP.
        why: what the client is told.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


def refusal_of(exc: Refused) -> Response:
    """The answer: `{"error":{"code","message"}}`. The rest of the request is not waited for."""
    error = {"code": exc.status, "message": exc.why}
    return JSONResponse({"error": error}, exc.status, {"Cache-Control": "no-store", "Connection": "close"})


async def body_of(http: Request, limit: int) -> bytes:
    """The body of a request.

    Args:
        limit: bytes of the largest; no more are read.

    Raises:
        Refused: 413 too large, 408 not there in time, 400 the client has gone away.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in http.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(413, f"a request has at most {limit} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the body ends early") from None
    return bytes(body)
