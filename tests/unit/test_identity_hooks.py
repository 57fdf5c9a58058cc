"""identity.hooks: what the back end is asked and how its answers are read; it may fail in any way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from service.errors import ConfigError, Disconnect, ReplyError, SessionEnded
from service.identity.hook import CONCURRENCY, MAX_ANSWER_BYTES
from service.identity.hooks import Hooks, SubscribeAnswer
from service.identity.identity import Capability, Identity, Override, ServerSubscription
from service.metrics import Metrics
from service.sections import HookSettings
from tests.unit.fakes.clock import Clock
from tests.unit.fakes.http_server import Asked, HttpServer, Reply, http_server, json

#: Of the client that asks in most tests.
ANN = Identity("ann", meta=b'{"plan":"free"}')

_EMPTY = json({"result": {}})


class _Setup:
    """Hooks that ask a server, their metrics and their clock."""

    def __init__(self, server: HttpServer, **settings: Any) -> None:
        base = f"http://127.0.0.1:{server.port}"
        urls = {f"{name}_url": f"{base}/{name}" for name in ("connect", "subscribe", "publish")}
        self.server = server
        self.metrics = Metrics()
        self.clock = Clock()
        # Long enough for a loaded machine: only tests of the timeout run into it.
        defaults = {"timeout_seconds": 10, "retries": 0}
        self.hooks = Hooks(HookSettings(**(urls | defaults | settings)), self.metrics, self.clock)

    async def publish(self, data: bytes = b"1") -> bytes:
        return await self.hooks.publish("c", ANN, "chat:lobby", data)

    async def fails(self) -> ReplyError:
        """A question that finds no usable answer."""
        with pytest.raises(ReplyError) as info:
            await self.publish()
        assert (info.value.code, info.value.temporary) == (100, True)
        assert info.value.message == "internal server error"
        return info.value

    def failures(self, reason: str, hook: str = "publish") -> float:
        labels = {"hook": hook, "reason": reason}
        return self.metrics.registry.get_sample_value("streamgate_hook_failures_total", labels) or 0


@asynccontextmanager
async def _setup(*replies: Reply, **settings: Any) -> AsyncIterator[_Setup]:
    async with http_server(*replies) as server:
        setup = _Setup(server, **settings)
        try:
            yield setup
        finally:
            await setup.hooks.aclose()


# What is asked, and answered


async def test_connect() -> None:
    """The identity has all that a token could say, and the client gets data."""
    result = {
        "user": "ann",
        "info": {"name": "Ann"},
        "expire_at": 2_000_000_000,
        "channels": ["news:1"],
        "subs": {"chat:lobby": {"data": [1]}},
        "caps": [{"channels": ["chat:*"], "allow": ["pub"], "match": "wildcard"}],
        "meta": {"plan": "free"},
        "data": {"hello": "you"},
    }
    async with _setup(json({"result": result}), secret=SecretStr("s3cret")) as setup:
        before = time.time()
        answer = await setup.hooks.connect("c1", "js", "5.0", b'{"a": 1}', {"cookie": "sid=1"})
        [asked] = setup.server.asked
    assert (asked.method, asked.path) == ("POST", "/connect")
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["authorization"] == "Bearer s3cret"
    assert orjson.loads(asked.body) == {
        "client": "c1",
        "name": "js",
        "version": "5.0",
        "data": {"a": 1},
        "headers": {"cookie": "sid=1"},
    }
    identity = answer.identity
    assert (identity.user, identity.info, identity.expires_at) == ("ann", b'{"name":"Ann"}', 2_000_000_000)
    assert identity.issued_at is not None
    assert before <= identity.issued_at <= time.time()
    assert identity.subscriptions == {
        "news:1": ServerSubscription(),
        "chat:lobby": ServerSubscription(data=b"[1]"),
    }
    assert identity.capabilities == (Capability(("chat:*",), frozenset(("publish",))),)
    assert (identity.meta, answer.data) == (b'{"plan":"free"}', b'{"hello":"you"}')


async def test_connect_may_be_answered_with_nothing() -> None:
    """Then the client is anybody; no secret, no header."""
    async with _setup(_EMPTY) as setup:
        answer = await setup.hooks.connect("c1", "", "", b"null")
        assert (answer.identity.user, answer.identity.expires_at, answer.data) == ("", None, None)
        assert "authorization" not in setup.server.asked[0].headers


async def test_subscribe() -> None:
    """The application hears who asks, and says what is special."""
    result = {
        "info": {"a": 1},
        "data": {"b": 2},
        "override": {"presence": {"value": False}},
        "expire_at": 2_000_000_000,
    }
    async with _setup(json({"result": result}), _EMPTY) as setup:
        answer = await setup.hooks.subscribe("c1", ANN, "chat:lobby", b"[1]")
        assert answer == SubscribeAnswer(b'{"a":1}', b'{"b":2}', Override(presence=False), 2_000_000_000)
        assert await setup.hooks.subscribe("c1", Identity("bob"), "chat:lobby", b"null") == SubscribeAnswer()
        first, second = setup.server.asked
    assert first.path == "/subscribe"
    assert orjson.loads(first.body) == {
        "client": "c1",
        "user": "ann",
        "channel": "chat:lobby",
        "data": [1],
        "meta": {"plan": "free"},
    }
    assert "meta" not in orjson.loads(second.body)


async def test_publish_may_change_what_is_said() -> None:
    """Word filters do; without data in the result nothing changes."""
    async with _setup(json({"result": {"data": {"text": "d**n"}}}), _EMPTY) as setup:
        assert await setup.publish(b'{"text":"damn"}') == b'{"text":"d**n"}'
        assert await setup.publish(b'{"text":"fine"}') == b'{"text":"fine"}'
        asked = setup.server.asked[0]
    assert asked.path == "/publish"
    assert orjson.loads(asked.body)["data"] == {"text": "damn"}


async def test_an_error_is_for_the_client() -> None:
    """It is an answer: nothing has failed, nothing is tried again."""
    error = {"code": 409, "message": "no links", "temporary": True}
    async with _setup(json({"error": error}), retries=5, breaker_failures=1) as setup:
        for _ in range(3):
            with pytest.raises(ReplyError) as info:
                await setup.publish()
            assert (info.value.code, info.value.message, info.value.temporary) == (409, "no links", True)
        assert len(setup.server.asked) == 3


async def test_a_disconnect_is_for_the_client() -> None:
    """With the application's own code."""
    async with _setup(json({"disconnect": {"code": 4501, "reason": "banned"}})) as setup:
        with pytest.raises(SessionEnded) as info:
            await setup.publish()
        assert info.value.disconnect == Disconnect(4501, "banned")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"result": None},
        {"result": [1]},
        {"error": "no"},
        {"error": {"message": "no code"}},
        {"error": {"code": 99, "message": ""}},
        {"error": {"code": True, "message": ""}},
        {"error": {"code": 400, "message": 1}},
        {"error": {"code": 400, "temporary": "yes"}},
        {"disconnect": {}},
        {"disconnect": {"code": 1000, "reason": ""}},
        {"disconnect": {"code": 5000, "reason": ""}},
        {"disconnect": {"code": 4000, "reason": "x" * 124}},
    ],
)
async def test_answers_of_no_known_shape(answer: Any) -> None:
    """They fail, and say nothing to the client."""
    async with _setup(json(answer)) as setup:
        await setup.fails()
        assert setup.failures("answer") == 1


async def test_a_result_of_wrong_types(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which member, not what was in it."""
    async with _setup(json({"result": {"user": ["secret"]}})) as setup:
        with pytest.raises(ReplyError):
            await setup.hooks.connect("c", "", "", b"null")
        assert setup.failures("answer", "connect") == 1
    assert "user must be a string" in caplog.text
    assert "secret" not in caplog.text


async def test_what_is_not_configured_is_not_available() -> None:
    """A namespace may ask for a hook that nobody has set up: then nothing is allowed there."""
    async with _setup(_EMPTY, publish_url="") as setup:
        with pytest.raises(ReplyError) as info:
            await setup.publish()
        assert (info.value.code, info.value.message) == (108, "hooks.publish_url is not configured")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"publish_url": "http://["}, "hooks.publish_url: not a URL"),
        ({"connect_url": "http://h", "secret": SecretStr("line\nbreak")}, "hooks.secret: cannot be sent"),
        ({"connect_url": "http://h", "secret": SecretStr("clé")}, "hooks.secret: cannot be sent"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], text: str) -> None:
    """They are told at the start, without the secret."""
    with pytest.raises(ConfigError) as info:
        Hooks(HookSettings(**settings), Metrics())
    assert text in str(info.value)
    assert "break" not in str(info.value)


# How it fails


@pytest.mark.parametrize("status", [204, 301, 400, 404])
async def test_a_status_that_trying_again_does_not_change(status: int) -> None:
    """One question, one failure; it is no reason to leave the others without an answer."""
    async with _setup(Reply(b"", status), retries=3, breaker_failures=1) as setup:
        for number in (1, 2, 3):
            assert (await setup.fails()).retry_after is None
            assert setup.failures("status") == len(setup.server.asked) == number


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_server_in_trouble_is_asked_again(status: int) -> None:
    """As often as configured."""
    async with _setup(Reply(b"", status), Reply(b"", status), _EMPTY, retries=2) as setup:
        assert await setup.publish(b"7") == b"7"
        assert setup.failures("status") == 2
        setup.server.says(Reply(b"", status))
        await setup.fails()
        assert len(setup.server.asked) == 6


async def test_retries_have_a_budget() -> None:
    """Ten saved up, and one for each five questions: a server that is down is not asked twice by all."""
    async with _setup(Reply(b"", 500), retries=1, breaker_failures=1_000_000) as setup:
        for _ in range(30):
            await setup.fails()
        assert len(setup.server.asked) == 30 + 10 + 5


async def test_no_answer_in_time() -> None:
    """The whole answer counts, not its first byte."""
    async with _setup(timeout_seconds=0.05) as setup:
        setup.server.stalls()
        await setup.fails()
        assert setup.failures("timeout") == 1


async def test_nobody_listens() -> None:
    """A refused connection is a failure like others."""
    async with _setup(_EMPTY) as setup:
        pass
    gone = _Setup(setup.server)
    await gone.fails()
    assert gone.failures("connection") == 1
    await gone.hooks.aclose()


async def test_a_huge_answer_is_not_read() -> None:
    """Beyond the bound, which grows with the question."""
    async with _setup(Reply(b" " * (MAX_ANSWER_BYTES + 1000))) as setup:
        await setup.fails()
        assert setup.failures("size") == 1
        long = orjson.dumps("x" * MAX_ANSWER_BYTES)
        setup.server.says(json({"result": {"data": "y" * MAX_ANSWER_BYTES}}))
        assert len(await setup.publish(long)) == len(long)


async def test_the_breaker_spares_a_server_that_is_down() -> None:
    """After failures in a row clients are told at once when to come back; then one probe decides."""
    async with _setup(Reply(b"", 500), breaker_failures=3, breaker_seconds=5) as setup:
        for _ in range(3):
            assert (await setup.fails()).retry_after is None
        retry_after = (await setup.fails()).retry_after
        assert retry_after is not None
        assert 5 <= retry_after <= 10
        assert len(setup.server.asked) == 3
        assert setup.failures("breaker") == 1
        # Others are asked all the same.
        setup.server.says(_EMPTY)
        await setup.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        await setup.fails()
        setup.clock.now += 5
        await setup.publish()
        await setup.publish()


async def test_a_probe_whose_client_went_away() -> None:
    """The next one probes."""
    async with _setup(Reply(b"", 500), breaker_failures=1) as setup:
        await setup.fails()
        setup.clock.now += 5
        setup.server.stalls()
        probe = asyncio.create_task(setup.publish())
        await setup.server.was_asked(2)
        probe.cancel()
        await asyncio.wait([probe])
        setup.server.says(_EMPTY)
        await setup.publish()


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
        return _EMPTY

    async with _setup() as setup:
        setup.server.respond = respond
        asking = [asyncio.create_task(setup.publish()) for _ in range(CONCURRENCY + 20)]
        await setup.server.was_asked(CONCURRENCY)
        release.set()
        await asyncio.gather(*asking)
    assert most == CONCURRENCY


async def test_nobody_waits_for_a_turn_for_ever() -> None:
    """No longer than for an answer."""
    async with _setup(timeout_seconds=0.3, retries=1, breaker_failures=1000) as setup:
        setup.server.stalls()
        outcomes = await asyncio.gather(
            *(setup.publish() for _ in range(CONCURRENCY * 3)), return_exceptions=True
        )
        assert all(isinstance(outcome, ReplyError) for outcome in outcomes)
        assert setup.failures("busy") > 0


# What is kept


async def test_answers_are_kept_where_that_is_configured() -> None:
    """For clients that ask the same; who asks something else, or later, is answered anew."""
    async with _setup(_EMPTY, cache_seconds=60) as setup:
        hooks, asked = setup.hooks, setup.server.asked
        for client in ("c1", "c2"):
            await hooks.subscribe(client, ANN, "chat:lobby", b"null")
            await hooks.connect(client, "js", "1", b"{}", {"cookie": "a"})
        assert len(asked) == 2
        await hooks.subscribe("c1", Identity("bob"), "chat:lobby", b"null")
        await hooks.subscribe("c1", Identity("ann"), "chat:lobby", b"null")  # without meta
        await hooks.subscribe("c1", ANN, "chat:other", b"null")
        await hooks.subscribe("c1", ANN, "chat:lobby", b"1")
        await hooks.connect("c1", "js", "1", b"{}", {"cookie": "b"})
        await hooks.connect("c1", "js", "1", b"[]", {"cookie": "a"})
        assert len(asked) == 8
        setup.clock.now += 60
        await hooks.subscribe("c1", ANN, "chat:lobby", b"null")
        assert len(asked) == 9


async def test_publications_and_refusals_are_not_kept() -> None:
    """A publication is looked at each time, and a refusal may be taken back at any time."""
    async with _setup(json({"result": {"data": 1}}), cache_seconds=60) as setup:
        await setup.publish()
        await setup.publish()
        setup.server.says(json({"error": {"code": 403, "message": "no"}}), _EMPTY)
        with pytest.raises(ReplyError):
            await setup.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        assert await setup.hooks.subscribe("c", ANN, "chat:lobby", b"null") == SubscribeAnswer()
        assert len(setup.server.asked) == 4


async def test_nothing_is_kept_by_default() -> None:
    """The application is asked each time."""
    async with _setup(_EMPTY) as setup:
        for _ in range(2):
            await setup.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        assert len(setup.server.asked) == 2


async def test_the_log_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither bodies nor headers nor queries, whatever fails."""
    caplog.set_level(logging.INFO)
    async with http_server() as server:
        url = f"http://user:password@127.0.0.1:{server.port}/publish?key=topsecret"
        setup = _Setup(server, publish_url=url, secret=SecretStr("topsecret"), breaker_failures=2)
        server.says(Reply(b"topsecret", 500), json({"result": "topsecret"}), Reply(b"topsecret", 500))
        for _ in range(4):
            await setup.fails()
        await setup.hooks.aclose()
    place = f"http://127.0.0.1:{server.port}/publish"
    assert f"hooks.publish_url: no answer from {place}: status 500" in caplog.text
    assert "topsecret" not in caplog.text
    assert "password" not in caplog.text


async def test_answers_are_measured() -> None:
    """By kind of question."""
    async with _setup(_EMPTY) as setup:
        await setup.publish()
        count = setup.metrics.registry.get_sample_value("streamgate_hook_seconds_count", {"hook": "publish"})
        assert count == 1
