"""streams.publish: one entry for each publication, and streams that stay about as long as configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from service.channels import Namespace
from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.position import format_id
from service.streams.publish import Publisher
from tests.support.redis_process import RedisProcess

Name = Callable[[str], str]


async def test_publish_is_an_entry(commands: Commands, redis: Redis, name: Name) -> None:
    """The same that a producer writes with XADD, with the publisher beside it; its id is returned."""
    metrics = Metrics()
    publisher = Publisher(commands, Keys("p:"), metrics)
    channel = name("chat")
    first = await publisher.publish(channel, Namespace(), b'{"a":1}')
    second = await publisher.publish(channel, Namespace(), b"2", b'{"client":"c"}')
    assert await redis.xrange("p:" + channel) == [
        (format_id(first), {b"data": b'{"a":1}'}),
        (format_id(second), {b"data": b"2", b"_info": b'{"client":"c"}'}),
    ]
    assert metrics.registry.get_sample_value("streamgate_published_total", {"namespace": "chat"}) == 2


@pytest.mark.parametrize(("size", "least", "most"), [(100, 100, 300), (0, 1000, 1000)])
async def test_publishing_trims(
    size: int, least: int, most: int, commands: Commands, redis: Redis, name: Name
) -> None:
    """About to the namespace's size, never below; 0 trims nothing."""
    publisher = Publisher(commands, Keys(""), Metrics())
    channel = name("chat")
    namespace = Namespace(history_size=size)
    await asyncio.gather(*(publisher.publish(channel, namespace, b"%d" % i) for i in range(1000)))
    assert least <= await redis.xlen(channel) <= most
    newest = await redis.xrevrange(channel, count=1)
    assert newest
    assert newest[0][1] == {b"data": b"999"}


async def test_what_redis_refuses(commands: Commands, redis: Redis, name: Name) -> None:
    """A key of another type is told, and is no publication."""
    metrics = Metrics()
    channel = name("chat")
    await redis.set(channel, "x")
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await Publisher(commands, Keys(""), metrics).publish(channel, Namespace(), b"1")
    assert metrics.registry.get_sample_value("streamgate_published_total", {"namespace": "chat"}) is None


async def test_without_redis_it_is_not_tried_later(redis_process: RedisProcess) -> None:
    """The publisher is told at once and decides itself."""
    never_connected = Commands(RedisSettings(url=SecretStr(redis_process.url)), Metrics())
    with pytest.raises(Unavailable):
        await Publisher(never_connected, Keys(""), Metrics()).publish("chat:a", Namespace(), b"1")
