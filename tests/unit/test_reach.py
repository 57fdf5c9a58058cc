"""tools.reach: what goes wrong on the way to Redis has few words, and an advice that fits."""

from __future__ import annotations

import pytest

from service import config
from service.errors import Unavailable
from service.streams.link import Link
from service.tools.reach import advise, describe, explain
from tests.support.redis_process import RedisProcess, StartRedis


@pytest.mark.parametrize(
    ("said", "text", "advice"),
    [
        ("Error 111 connecting to 127.0.0.1:1. Connect call failed.", "connection refused", "start it"),
        ("Error 2 connecting to /tmp/x. No such file or directory.", "no such file or directory", "start it"),
        (
            "Error -2 connecting to no.host:6379. Name or service not known.",
            "Name or service not known",
            "host",
        ),
        (
            "Error 1 connecting to h:6380. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "self-signed certificate (_ssl.c:1006).",
            "its certificate is not trusted: self-signed certificate",
            "ssl_ca_certs",
        ),
        ("Error 1 connecting to h:6380. [SSL: WRONG_VERSION_NUMBER] x.", "no TLS connection", "redis://"),
        ("Timeout connecting to server", "no answer in time", "rediss://"),
        (
            "Error while reading from h:1 : (104, 'Connection reset by peer')",
            "it closes the connection",
            "rediss://",
        ),
        ('Protocol error, got "H" as reply type byte', "what answers there is not Redis", "port"),
        ("something new.", "something new", ""),
    ],
)
def test_what_redis_py_says(said: str, text: str, advice: str) -> None:
    """With and without the name of its error."""
    for exc in (Unavailable(f"ConnectionError: {said}"), OSError(said)):
        assert explain(exc) == text
        assert advice in advise(exc)
        assert bool(advise(exc)) == bool(advice)


async def _refused(url: str) -> tuple[str, str]:
    with pytest.raises(Unavailable) as info:
        await Link.open(config.load(None, {"redis": {"url": url}}).redis)
    return explain(info.value), advise(info.value)


async def test_what_redis_says(start_redis: StartRedis, redis_process: RedisProcess) -> None:
    """Passwords and databases, by a real one."""
    url = start_redis(password="right").url
    text, advice = await _refused(url.replace(":right@", ""))
    assert text == "it wants a password"
    assert "redis://:PASSWORD@HOST" in advice
    assert (await _refused(url.replace("right", "wrong")))[0] == "it refuses this user and password"
    text, advice = await _refused(redis_process.url.removesuffix("/0") + "/999")
    assert text == "it has no database of this number"
    assert "/0" in advice


def test_describe() -> None:
    """Host and port, or the path of a socket; never a password."""
    for url, place in (
        ("redis://:pw@h:1/2", "h:1"),
        ("redis://h", "h:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ):
        assert describe(config.load(None, {"redis": {"url": url}})) == place
