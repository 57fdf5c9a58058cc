"""Where Redis is, why it cannot be reached, and what to do about it, in a few words each."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from service.config import Settings


class _Known(NamedTuple):
    pattern: str
    text: str  # \1 is the pattern's first group
    advice: str


_START = "start it, or name another one (redis.url, --redis-url)"

#: What redis-py and Redis say, the first match counts.
_KNOWN = (
    _Known(r"DB index is out of range", "it has no database of this number", "end the URL with /0"),
    _Known(
        r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: (.*?)(?: \(_ssl.*)?$",
        r"its certificate is not trusted: \1",
        "name the authority's file in the URL: rediss://…?ssl_ca_certs=FILE",
    ),
    _Known(r"\[SSL", "no TLS connection", "if it does not speak TLS, the URL begins with redis://"),
    _Known(
        r"HELLO must be called|NOAUTH",
        "it wants a password",
        "put it into the URL: redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST",
    ),
    _Known(
        r"invalid username-password|WRONGPASS",
        "it refuses this user and password",
        "see redis.url; special characters in it are written as %40 and the like",
    ),
    _Known(r"Protocol error|not RESP3", "what answers there is not Redis", "see host and port of redis.url"),
    _Known(
        r"Connection closed by server|reset by peer",
        "it closes the connection",
        "if it speaks TLS, the URL begins with rediss://",
    ),
    _Known(
        r"Timeout",
        "no answer in time",
        "see that it can be reached from here, and that only a Redis with TLS has a URL with rediss://",
    ),
    _Known(r"^Error -\d+ connecting to \S+\. (.*)", r"\1", "see the host of redis.url"),
)


def describe(settings: Settings) -> str:
    """Where Redis is, without user and password."""
    parts = urlsplit(settings.redis.url.get_secret_value())
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"


def explain(exc: BaseException) -> str:
    """An error on the way to Redis in a few words, such as `connection refused`."""
    return _read(exc)[0]


def advise(exc: BaseException) -> str:
    """What to do about it; "" where nothing is known."""
    return _read(exc)[1]


def _read(exc: BaseException) -> tuple[str, str]:
    # Unavailable holds the class of redis-py's error before its text.
    text = re.sub(r"^[A-Za-z]+Error: |^InvalidResponse: ", "", str(exc))
    for known in _KNOWN:
        if found := re.search(known.pattern, text):
            return found.expand(known.text).rstrip("."), known.advice
    if number := re.search(r"\[Errno (\d+)\]|Error (\d+) connecting", text):
        return os.strerror(int(number[1] or number[2])).lower(), _START
    return (text or type(exc).__name__).rstrip("."), ""
