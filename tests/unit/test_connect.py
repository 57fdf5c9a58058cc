"""streams.connect: connections that never repeat a command, and the one private attribute this needs."""

from __future__ import annotations

import asyncio
import gc
import inspect

import pytest
from pydantic import SecretStr
from redis.asyncio.connection import AbstractConnection

from service.errors import Unavailable
from service.sections import RedisSettings
from service.streams import connect
from tests.support.processes import free_port
from tests.support.redis_process import RedisProcess, StartRedis


def _settings(url: str) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), timeout_seconds=1.0)


async def test_a_connected_writer(redis_process: RedisProcess) -> None:
    """It speaks RESP3 already, and redis-py holds it no longer."""
    writer = await connect.connected_writer(_settings(redis_process.url))
    protocol = writer.transport.get_protocol()
    assert isinstance(protocol, asyncio.StreamReaderProtocol)
    assert isinstance(writer, asyncio.StreamWriter)
    assert not writer.is_closing()
    writer.close()
    await writer.wait_closed()


def test_redis_py_keeps_its_writer_where_it_is_looked_for() -> None:
    """`_writer` is private: this fails first when a release of redis-py moves it."""
    source = inspect.getsource(AbstractConnection)
    assert "self._writer: Optional[asyncio.StreamWriter] = None" in source
    # A connection whose writer was taken does not close it when it is collected.
    assert 'if getattr(self, "_writer", None):' in source


async def test_a_taken_writer_outlives_redis_pys_connection(redis_process: RedisProcess) -> None:
    """The connection object is collected at once; the socket stays open."""
    writer = await connect.connected_writer(_settings(redis_process.url))
    gc.collect()
    await asyncio.sleep(0)
    assert not writer.transport.is_closing()
    writer.write(b"*1\r\n$4\r\nPING\r\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_refused_connection_is_unavailable() -> None:
    """Nobody listens."""
    with pytest.raises(Unavailable):
        await connect.connected_writer(_settings(f"redis://127.0.0.1:{free_port()}"))


async def test_refused_credentials_are_unavailable(start_redis: StartRedis) -> None:
    """And the text does not hold the password."""
    process = start_redis(password="right")
    with pytest.raises(Unavailable) as info:
        await connect.connected_writer(_settings(f"redis://:hunter2@127.0.0.1:{process.port}"))
    assert "hunter2" not in str(info.value)
    writer = await connect.connected_writer(_settings(process.url))
    writer.close()
    await writer.wait_closed()


async def test_a_server_that_never_answers_is_unavailable() -> None:
    """Within the configured time."""
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: accepted.append(writer), "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        settings = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{port}"), timeout_seconds=0.1)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(connect.connected_writer(settings), 5)
        for writer in accepted:
            writer.close()
            await writer.wait_closed()


async def test_the_ordinary_client_repeats_nothing(redis_process: RedisProcess) -> None:
    """An XADD whose reply is lost must not become two entries."""
    async with connect.client(_settings(redis_process.url)) as client:
        assert await client.ping()
        retry = client.connection_pool.connection_kwargs["retry"]
        assert retry._retries == 0
