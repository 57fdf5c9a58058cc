"""streams.commands: one connection, made anew when it is lost; nothing is sent twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from service.errors import CommandFailed, Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams import commands as commands_module
from service.streams.commands import Commands
from tests.support.processes import free_port
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.waiting import eventually
from tests.unit.fakes.clock import turns

Name = Callable[[str], str]


async def test_execute_and_pipeline(commands: Commands, name: Name) -> None:
    """One reply, or one for each; errors are raised, or in the list."""
    key = name("log")
    assert await commands.execute("INCR", key) == 1
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await commands.execute("XLEN", key)
    replies = await commands.pipeline([("INCR", key), ("XLEN", key)])
    assert replies[0] == 2
    assert isinstance(replies[1], CommandFailed)


async def test_transaction(commands: Commands, name: Name) -> None:
    """All or nothing: an error of one is in the list, a transaction that was refused is raised."""
    key = name("log")
    replies = await commands.transaction([("INCR", key), ("XLEN", key), ("GET", key)])
    assert replies[0] == 1
    assert isinstance(replies[1], CommandFailed)
    assert replies[2] == b"1"
    with pytest.raises(CommandFailed, match="unknown command"):
        await commands.transaction([("INCR", key), ("NOSUCH",)])
    assert await commands.execute("GET", key) == b"1"


async def test_a_lost_connection_is_made_anew(commands: Commands, redis: Redis) -> None:
    """Calls in between fail at once; afterwards they work again."""
    lost = await commands.execute("CLIENT", "ID")
    await redis.client_kill_filter(_id=lost)
    found = lost
    async with asyncio.timeout(10):
        while found == lost:
            try:
                found = await commands.execute("CLIENT", "ID")
            except Unavailable:
                await turns()  # or the connection could not be made anew


async def test_without_redis_calls_fail_at_once() -> None:
    """Nothing waits for a connection that may never come."""
    metrics = Metrics()
    settings = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}"))
    commands = Commands(settings, metrics)
    running = asyncio.create_task(commands.run())
    for _ in range(3):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(commands.execute("PING"), 1)
    assert not commands.connected
    assert metrics.registry.get_sample_value("streamgate_redis_errors_total", {"kind": "unavailable"}) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await turns()


async def test_redis_clock_is_known(commands: Commands) -> None:
    """On one machine it is ours."""
    assert abs(commands.clock_offset) < 1


# Who answers, and what is allowed

_HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@asynccontextmanager
async def _answering(answer: Callable[[str], bytes]) -> AsyncIterator[Commands]:
    """Commands at something that is no Redis."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser: Any = hiredis.Reader(encoding="utf-8")
        while data := await reader.read(65536):
            parser.feed(data)
            while command := parser.gets():
                writer.write(answer(command[0]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    commands = Commands(RedisSettings(url=SecretStr(url)), Metrics())
    running = asyncio.create_task(commands.run())
    yield commands
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await turns()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "odd",
    [
        {},  # OK to everything
        {"HELLO": b":1\r\n"},
        {"HELLO": b"_\r\n"},
        {"HELLO": _HELLO, "TIME": b"_\r\n"},
        {"HELLO": _HELLO, "TIME": b"*0\r\n"},
        {"HELLO": _HELLO, "TIME": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
        {"HELLO": _HELLO, "TIME": b"*2\r\n,1.5\r\n,nan\r\n"},
        {"HELLO": _HELLO, "TIME": b"-ERR \xff\r\n"},
        {"HELLO": _HELLO, "TIME": b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"},  # and OK to what comes then
    ],
)
async def test_what_is_no_redis_is_not_talked_to(odd: dict[str, bytes]) -> None:
    """Whatever it answers: the connection counts as none, and is tried again."""
    asked: list[str] = []

    def answer(command: str) -> bytes:
        asked.append(command)
        return odd.get(command, b"+OK\r\n")

    async with _answering(answer) as commands:
        await eventually(lambda: asked.count("HELLO") >= 2, "a second try")
        assert not commands.connected


@asynccontextmanager
async def _as_user(redis: Redis, process: RedisProcess, *rules: str) -> AsyncIterator[Commands]:
    """Commands of a user with these rights."""
    user = f"user-{id(rules)}"
    await redis.acl_setuser(user, enabled=True, passwords=["+secret"], keys=["*"])
    await redis.execute_command("ACL", "SETUSER", user, "+@all", *rules)  # type: ignore[no-untyped-call]
    url = process.url.replace("redis://", f"redis://{user}:secret@")
    commands = Commands(RedisSettings(url=SecretStr(url)), Metrics())
    running = asyncio.create_task(commands.run())
    await asyncio.wait_for(commands.wait_connected(), 10)
    yield commands
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await turns()
    await redis.acl_deluser(user)


async def test_without_the_time_the_clocks_are_taken_to_be_the_same(
    redis: Redis, redis_process: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection stays; one line tells of it."""
    with caplog.at_level(logging.WARNING):
        async with _as_user(redis, redis_process, "-time") as commands:
            assert await commands.execute("PING") is not None
            assert commands.clock_offset == 0.0
            assert commands.refusal is None
    assert [r.message for r in caplog.records if "TIME" in r.message] == [caplog.records[0].message]
    assert "NOPERM" in caplog.text


@pytest.mark.parametrize(
    ("rule", "told"), [("-eval", "EVAL"), ("-xread", "XREAD"), ("-persist", "EVAL"), ("resetkeys", "EVAL")]
)
async def test_what_a_node_cannot_do_without(
    rule: str, told: str, redis: Redis, redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is known, until it is none any more."""
    monkeypatch.setattr(commands_module, "REFUSED_SECONDS", 0.01)
    async with _as_user(redis, redis_process, rule) as commands:
        assert commands.refusal is not None
        assert commands.refusal.startswith(f"Redis refuses {told}: ")
        user = await commands.execute("ACL", "WHOAMI")
        await redis.acl_setuser(user.decode(), enabled=True, keys=["*"], categories=["+@all"])
        await eventually(lambda: commands.refusal is None, "the refusal ends")


async def test_a_replica_takes_no_writes(start_redis: StartRedis, redis_process: RedisProcess) -> None:
    """What is asked of it fails, and is told in Redis' words."""
    replica = start_redis()
    async with Redis.from_url(replica.url) as client:
        await client.replicaof("127.0.0.1", redis_process.port)
    commands = Commands(RedisSettings(url=SecretStr(replica.url)), Metrics())
    running = asyncio.create_task(commands.run())
    await asyncio.wait_for(commands.wait_connected(), 10)
    assert "READONLY" in str(commands.refusal)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await turns()


async def test_refusals_are_told_once_in_a_while(
    redis: Redis, redis_process: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """By command, in Redis' words; a command's own fault is the caller's business."""
    with caplog.at_level(logging.WARNING):
        async with _as_user(redis, redis_process, "-xadd", "-xinfo") as commands:
            for _ in range(3):
                with pytest.raises(CommandFailed, match="NOPERM"):
                    await commands.execute("XADD", "a", "*", "data", "1")
                with pytest.raises(CommandFailed, match="NOPERM"):
                    await commands.transaction([("XINFO", "STREAM", "a")])
                with pytest.raises(CommandFailed, match="ERR"):
                    await commands.execute("GET")
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "Redis refuses XADD",
        "Redis refuses XINFO",
    ]
