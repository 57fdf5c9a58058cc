"""identity.hooks: what the back end is asked, how its answers are read, and which are kept."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from service.errors import ConfigError, Disconnect, ReplyError, SessionEnded
from service.identity.hooks import Hooks, SubscribeAnswer
from service.identity.identity import Capability, Identity, Override, ServerSubscription
from service.metrics import Metrics
from service.sections import HookSettings
from tests.unit.fakes.hooks import ANN, EMPTY, hooks_world
from tests.unit.fakes.http_server import json

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
    async with hooks_world(json({"result": result}), secret=SecretStr("s3cret")) as world:
        before = time.time()
        answer = await world.hooks.connect("c1", "js", "5.0", b'{"a": 1}', {"cookie": "sid=1"})
        [asked] = world.server.asked
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
    async with hooks_world(EMPTY) as world:
        answer = await world.hooks.connect("c1", "", "", b"null")
        assert (answer.identity.user, answer.identity.expires_at, answer.data) == ("", None, None)
        assert "authorization" not in world.server.asked[0].headers


async def test_subscribe() -> None:
    """The application hears who asks, and says what is special."""
    result = {
        "info": {"a": 1},
        "data": {"b": 2},
        "override": {"presence": {"value": False}},
        "expire_at": 2_000_000_000,
    }
    async with hooks_world(json({"result": result}), EMPTY) as world:
        answer = await world.hooks.subscribe("c1", ANN, "chat:lobby", b"[1]")
        assert answer == SubscribeAnswer(b'{"a":1}', b'{"b":2}', Override(presence=False), 2_000_000_000)
        assert await world.hooks.subscribe("c1", Identity("bob"), "chat:lobby", b"null") == SubscribeAnswer()
        first, second = world.server.asked
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
    async with hooks_world(json({"result": {"data": {"text": "d**n"}}}), EMPTY) as world:
        assert await world.publish(b'{"text":"damn"}') == b'{"text":"d**n"}'
        assert await world.publish(b'{"text":"fine"}') == b'{"text":"fine"}'
        asked = world.server.asked[0]
    assert asked.path == "/publish"
    assert orjson.loads(asked.body)["data"] == {"text": "damn"}


async def test_an_error_is_for_the_client() -> None:
    """It is an answer: nothing has failed, nothing is tried again."""
    error = {"code": 409, "message": "no links", "temporary": True}
    async with hooks_world(json({"error": error}), retries=5, breaker_failures=1) as world:
        for _ in range(3):
            with pytest.raises(ReplyError) as info:
                await world.publish()
            assert (info.value.code, info.value.message, info.value.temporary) == (409, "no links", True)
        assert len(world.server.asked) == 3


async def test_a_disconnect_is_for_the_client() -> None:
    """With the application's own code."""
    async with hooks_world(json({"disconnect": {"code": 4501, "reason": "banned"}})) as world:
        with pytest.raises(SessionEnded) as info:
            await world.publish()
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
    async with hooks_world(json(answer)) as world:
        await world.fails()
        assert world.failures("answer") == 1


async def test_a_result_of_wrong_types(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which member, not what was in it."""
    async with hooks_world(json({"result": {"user": ["secret"]}})) as world:
        with pytest.raises(ReplyError):
            await world.hooks.connect("c", "", "", b"null")
        assert world.failures("answer", "connect") == 1
    assert "user must be a string" in caplog.text
    assert "secret" not in caplog.text


async def test_what_is_not_configured_is_not_available() -> None:
    """A namespace may ask for a hook that nobody has set up: then nothing is allowed there."""
    async with hooks_world(EMPTY, publish_url="") as world:
        with pytest.raises(ReplyError) as info:
            await world.publish()
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


# What is kept


async def test_answers_are_kept_where_that_is_configured() -> None:
    """For clients that ask the same; who asks something else, or later, is answered anew."""
    async with hooks_world(EMPTY, cache_seconds=60) as world:
        hooks, asked = world.hooks, world.server.asked
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
        world.clock.now += 60
        await hooks.subscribe("c1", ANN, "chat:lobby", b"null")
        assert len(asked) == 9


async def test_publications_and_refusals_are_not_kept() -> None:
    """A publication is looked at each time, and a refusal may be taken back at any time."""
    async with hooks_world(json({"result": {"data": 1}}), cache_seconds=60) as world:
        await world.publish()
        await world.publish()
        world.server.says(json({"error": {"code": 403, "message": "no"}}), EMPTY)
        with pytest.raises(ReplyError):
            await world.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        assert await world.hooks.subscribe("c", ANN, "chat:lobby", b"null") == SubscribeAnswer()
        assert len(world.server.asked) == 4


async def test_nothing_is_kept_by_default() -> None:
    """The application is asked each time."""
    async with hooks_world(EMPTY) as world:
        for _ in range(2):
            await world.hooks.subscribe("c", ANN, "chat:lobby", b"null")
        assert len(world.server.asked) == 2


async def test_answers_are_measured() -> None:
    """By kind of question."""
    async with hooks_world(EMPTY) as world:
        await world.publish()
        count = world.metrics.registry.get_sample_value("streamgate_hook_seconds_count", {"hook": "publish"})
        assert count == 1
