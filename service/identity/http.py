"""Questions to other servers over HTTP: bounded in time and size, and nothing secret in the log."""

from __future__ import annotations

import asyncio
import logging
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx

from service.errors import ConfigError


class NoAnswer(Exception):
    """There is no usable answer.

    Args:
        reason: in a word, for metrics: timeout, connection, status, size.
        text: in a few words, for the log.
        overloaded: whether the server was not reached, or cannot work now; the same may work later.
    """

    def __init__(self, reason: str, text: str, *, overloaded: bool) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text
        self.overloaded = overloaded


def client(connections: int, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A client that follows no redirects and keeps no cookies.

    Args:
        connections: that it has open at once, at most.
        headers: sent with each request.
    """
    # At INFO it logs the URL of each request, with what is secret in it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.AsyncClient(
        # A compressed answer may be small and yet fill the memory.
        headers={"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})},
        # What an answer about one client sets must not go out with a question about another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx.Limits(max_connections=connections),
        timeout=None,  # noqa: S113  # `ask` bounds the whole exchange instead of each of its steps
    )


async def ask(client: httpx.AsyncClient, request: httpx.Request, *, seconds: float, limit: int) -> bytes:
    """The body of the answer 200.

    Args:
        seconds: for everything, from the connection to the last byte.
        limit: bytes of the largest body.

    Raises:
        NoAnswer: anything else.
    """
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    status = response.status_code
                    overloaded = status >= 500 or status in (408, 429)
                    raise NoAnswer("status", f"status {status}", overloaded=overloaded)
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > limit:
                        raise NoAnswer("size", f"more than {limit} bytes", overloaded=False)
                return bytes(body)
            finally:
                await response.aclose()
    except TimeoutError:
        raise NoAnswer("timeout", f"nothing within {seconds:g} s", overloaded=True) from None
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        # Its text may hold the URL.
        text = "it cannot be reached" if isinstance(exc, httpx.ConnectError) else type(exc).__name__
        raise NoAnswer("connection", text, overloaded=True) from None


def checked(setting: str, url: str) -> str:
    """A URL that can be asked.

    Raises:
        ConfigError: it has no host, or cannot be read; the text does not hold it.
    """
    try:
        if httpx.URL(url).host and urlsplit(url).hostname:
            return url
    except (httpx.InvalidURL, ValueError):
        pass
    raise ConfigError(f"{setting}: not a URL that can be asked; allowed: such as https://example.org/path")


def place(url: str) -> str:
    """A URL without user, password and query: for logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
