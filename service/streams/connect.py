"""One way to get connections to Redis, whatever its topology: today a single primary.

The node's hot path does not use redis-py's command layer: `Link` (link.py) speaks RESP3 over a
transport that redis-py has connected and authenticated. Everything that is not hot (the command
line, checks) uses the ordinary client from `client`.
"""

from __future__ import annotations

import asyncio
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.config import RedisSettings
from service.errors import Unavailable


def _pool(settings: RedisSettings) -> ConnectionPool:
    # No retries: redis-py repeats a command whose reply was lost, and an XADD would become several entries.
    return ConnectionPool.from_url(
        settings.url.get_secret_value(),
        protocol=3,
        socket_connect_timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )


def client(settings: RedisSettings) -> Redis:
    """An ordinary redis-py client that never repeats a command. Close it with `aclose()`."""
    return Redis.from_pool(_pool(settings))


async def transport(settings: RedisSettings) -> tuple[asyncio.Transport, AbstractConnection]:
    """A connected transport after TLS, `HELLO 3`, `AUTH` and `SELECT`, and the object that keeps it alive.

    The transport's protocol is still redis-py's; the caller sets its own at once.

    Raises:
        Unavailable: Redis is not there, refuses the credentials, or does not answer in time.
    """
    connection: AbstractConnection = _pool(settings).make_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.connect()
    except (TimeoutError, RedisError, OSError) as exc:
        raise Unavailable(f"{type(exc).__name__}: {exc}") from exc
    # The one private attribute this package uses of redis-py; tests/unit/test_connect.py guards it.
    writer = connection._writer
    if writer is None:
        raise Unavailable("the connection was lost during its handshake")
    return cast(asyncio.Transport, writer.transport), connection
