"""Which pages may ask, and what browsers are told of it (cross-origin resource sharing)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.transports.origins import Origins

#: Headers that the SDKs set, and that browsers ask about.
_HEADERS = "content-type"

#: Seconds that browsers remember an answer to a preflight request.
_MAX_AGE = "7200"


class Cors:
    """Checks method and origin before a request is looked at."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def check(self, http: Request, methods: tuple[str, ...]) -> Response | None:
        """The answer to what is no request to be carried out, or not by this page; None: go on."""
        if not self._origins.allow(http.headers):
            return PlainTextResponse("this origin may not connect\n", 403, {"Connection": "close"})
        if http.method == "OPTIONS":
            response = Response(status_code=204)
            response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            response.headers["Access-Control-Allow-Headers"] = _HEADERS
            response.headers["Access-Control-Max-Age"] = _MAX_AGE
            self.allow(http, response)
            return response
        if http.method not in methods:
            allow = {"Allow": ", ".join((*methods, "OPTIONS")), "Connection": "close"}
            return PlainTextResponse("method not allowed\n", 405, allow)
        return None

    def allow(self, http: Request, response: Response) -> None:
        """Let the page read the answer."""
        response.headers.update(self.headers(http))

    def headers(self, http: Request) -> dict[str, str]:
        """The same, as headers."""
        origin = http.headers.get("origin")
        if self._origins.for_all:
            # Any page may ask, but not with what the browser keeps of the visitor.
            return {"Access-Control-Allow-Origin": "*"}
        if origin is None:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
        }
