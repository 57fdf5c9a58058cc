"""One way to get connections to Redis, whatever its topology: today a single primary.

The node's hot path does not use redis-py's command layer: `Link` (link.py) speaks RESP3 over a
transport that redis-py has connected and authenticated. Everything that is not hot (the command
line, checks) uses the ordinary client from `client`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.errors import Unavailable
from service.sections import RedisSettings


def _pool(settings: RedisSettings) -> ConnectionPool:
    url = settings.url.get_secret_value()
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    # No retries: redis-py repeats a command whose reply was lost, and an XADD would become several entries.
    return ConnectionPool.from_url(
        url,
        protocol=3,
        socket_connect_timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


def client(settings: RedisSettings) -> Redis:
    """An ordinary redis-py client that never repeats a command. Close it with `aclose()`."""
    return Redis.from_pool(_pool(settings))


async def connected_writer(settings: RedisSettings) -> asyncio.StreamWriter:
    """A connected stream after TLS, `HELLO 3`, `AUTH` and `SELECT`, for its transport.

    The caller sets a protocol of its own on the transport at once, and keeps the writer as long as
    it uses the transport (a discarded writer closes it).

    Raises:
        Unavailable: Redis is not there, refuses the credentials, or does not answer in time.
    """
    connection: AbstractConnection = _pool(settings).make_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except Exception as exc:  # besides errors, redis-py raises whatever an answer that is none leads to
        raise Unavailable(f"{type(exc).__name__}: {exc}") from exc
    # The one private attribute this package uses of redis-py; tests/unit/test_connect.py guards it.
    writer: asyncio.StreamWriter | None = connection._writer
    if writer is None:
        raise Unavailable("the connection was lost during its handshake")
    connection._writer = None  # ours now: redis-py would close it with the connection object
    return writer
