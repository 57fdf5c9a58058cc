"""What a Redis URL may say; mistakes are found when the settings are read, not at the first connection."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

#: Redis URL schemes that connect.py knows.
SCHEMES = ("redis", "rediss", "unix")

#: Options behind the `?` that hold the path of a file that must be there.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

#: All options behind the `?`, and what they may hold where that is one of a few words.
_OPTIONS: dict[str, tuple[str, ...]] = {"db": (), "client_name": ()}
_TLS_OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_FILES, ()),
    "ssl_password": (),
    "ssl_ciphers": (),
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
}


def check(url: str) -> None:
    """Find out whether a connection could be made from a URL.

    Raises:
        ValueError: it could not; the text says what is allowed, and holds no password.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("a URL with a host, and a port up to 65535, such as redis://host:6379/0") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a URL that begins with one of {', '.join(s + '://' for s in SCHEMES)}")
    path = unquote(parts.path).strip("/")
    if parts.scheme != "unix" and path and not path.isdecimal():
        raise ValueError("a URL whose path is the number of a database, such as redis://host:6379/0")
    options = _OPTIONS | (_TLS_OPTIONS if parts.scheme == "rediss" else {})
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            raise ValueError(f"of the options behind the ?, with {parts.scheme}://: {', '.join(options)}")
        words = options[name]
        if words and value not in words:
            raise ValueError(f"{name} of {', '.join(words)}")
        if name == "db" and not value.isdecimal():
            raise ValueError("db with a number")
        if name in _FILES and not Path(value).is_file():
            raise ValueError(f"{name} with the path of a file; there is no {value}")
