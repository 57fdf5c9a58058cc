"""identity.hooks: the back end may fail in any way; it is spared, and nobody waits for long."""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest
from pydantic import SecretStr

from service.errors import ReplyError
from service.identity.hook import CONCURRENCY, MAX_ANSWER_BYTES
from tests.unit.fakes.hooks import ANN, EMPTY, HooksWorld, hooks_world
from tests.unit.fakes.http_server import Asked, Reply, http_server, json


@pytest.mark.parametrize("status", [204, 301, 400, 404])
async def test_a_status_that_trying_again_does_not_change(status: int) -> None:
    """One question, one failure; it is no reason to leave the others without an answer."""
    async with hooks_world(Reply(b"", status), retries=3, breaker_failures=1) as world:
        for number in (1, 2, 3):
            assert (await world.fails()).retry_after is None
            assert world.failures("status") == len(world.server.asked) == number


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_server_in_trouble_is_asked_again(status: int) -> None:
    """As often as configured."""
    async with hooks_world(Reply(b"", status), Reply(b"", status), EMPTY, retries=2) as world:
        assert await world.publish(b"7") == b"7"
        assert world.failures("status") == 2
        world.server.says(Reply(b"", status))
        await world.fails()
        assert len(world.server.asked) == 6


async def test_retries_have_a_budget() -> None:
    """Ten saved up, and one for each five questions: a server that is down is not asked twice by all."""
    async with hooks_world(Reply(b"", 500), retries=1, breaker_failures=1_000_000) as world:
        for _ in range(30):
            await world.fails()
        assert len(world.server.asked) == 30 + 10 + 5


async def test_no_answer_in_time() -> None:
    """The whole answer counts, not its first byte."""
    async with hooks_world(timeout_seconds=0.05) as world:
        world.server.stalls()
        await world.fails()
        assert world.failures("timeout") == 1


async def test_nobody_listens() -> None:
    """A refused connection is a failure like others."""
    async with hooks_world(EMPTY) as world:
        pass
    gone = HooksWorld(world.server)
    await gone.fails()
    assert gone.failures("connection") == 1
    await gone.hooks.aclose()


async def test_a_huge_answer_is_not_read() -> None:
    """Beyond the bound, which grows with the question."""
    async with hooks_world(Reply(b" " * (MAX_ANSWER_BYTES + 1000))) as world:
        await world.fails()
        assert world.failures("size") == 1
        long = orjson.dumps("x" * MAX_ANSWER_BYTES)
        world.server.says(json({"result": {"data": "y" * MAX_ANSWER_BYTES}}))
        assert len(await world.publish(long)) == len(long)


async def test_the_breaker_spares_a_server_that_is_down() -> None:
    """After failures in a row clients are told at once when to come back; then one probe decides."""
    async with hooks_world(Reply(b"", 500), breaker_failures=3, breaker_seconds=5) as world:
        for _ in range(3):
            assert (await world.fails()).retry_after is None
        retry_after = (await world.fails()).retry_after
        assert retry_after is not None
        assert 5 <= retry_after <= 10
        assert len(world.server.asked) == 3
        assert world.failures("breaker") == 1
        # Others are asked all the same.
        world.server.says(EMPTY)
        await world.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        await world.fails()
        world.clock.now += 5
        await world.publish()
        await world.publish()


async def test_a_probe_whose_client_went_away() -> None:
    """The next one probes."""
    async with hooks_world(Reply(b"", 500), breaker_failures=1) as world:
        await world.fails()
        world.clock.now += 5
        world.server.stalls()
        probe = asyncio.create_task(world.publish())
        await world.server.was_asked(2)
        probe.cancel()
        await asyncio.wait([probe])
        world.server.says(EMPTY)
        await world.publish()


async def test_only_so_many_are_under_way() -> None:
    """The others wait for their turn."""
    release = asyncio.Event()
    under_way = most = 0

    async def respond(_: Asked) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await release.wait()
        under_way -= 1
        return EMPTY

    async with hooks_world() as world:
        world.server.respond = respond
        asking = [asyncio.create_task(world.publish()) for _ in range(CONCURRENCY + 20)]
        await world.server.was_asked(CONCURRENCY)
        release.set()
        await asyncio.gather(*asking)
    assert most == CONCURRENCY


async def test_nobody_waits_for_a_turn_for_ever() -> None:
    """No longer than for an answer."""
    async with hooks_world(timeout_seconds=0.3, retries=1, breaker_failures=1000) as world:
        world.server.stalls()
        outcomes = await asyncio.gather(
            *(world.publish() for _ in range(CONCURRENCY * 3)), return_exceptions=True
        )
        assert all(isinstance(outcome, ReplyError) for outcome in outcomes)
        assert world.failures("busy") > 0


async def test_the_log_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither bodies nor headers nor queries, whatever fails."""
    caplog.set_level(logging.INFO)
    async with http_server() as server:
        url = f"http://user:password@127.0.0.1:{server.port}/publish?key=topsecret"
        world = HooksWorld(server, publish_url=url, secret=SecretStr("topsecret"), breaker_failures=2)
        server.says(Reply(b"topsecret", 500), json({"result": "topsecret"}), Reply(b"topsecret", 500))
        for _ in range(4):
            await world.fails()
        await world.hooks.aclose()
    place = f"http://127.0.0.1:{server.port}/publish"
    assert f"hooks.publish_url: no answer from {place}: status 500" in caplog.text
    assert "topsecret" not in caplog.text
    assert "password" not in caplog.text
