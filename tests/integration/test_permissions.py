"""Who may do what: every identity, with every kind of access, tries every action."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.checker import add
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, allow, someone, token
from tests.support.ws_client import Client, Json, open_client

Name = Callable[[str], str]

_ACCESS = ("anonymous", "authenticated", "token", "nobody")
_ACTIONS = ("subscribe", "publish", "history", "presence", "presence_stats")
_EVERYTHING = ("sub", "pub", "hst", "prs")


def _namespace(access: str, **more: Any) -> Json:
    rules = dict.fromkeys(("subscribe", "publish", "history", "presence"), access)
    return {"mode": "log", "history_size": 0, **rules, **more}


NAMESPACES = {
    **{access: _namespace(access) for access in _ACCESS},
    **{f"personal-{access}": _namespace(access, personal=True) for access in _ACCESS},
    "room": _namespace("authenticated", chat=True),
    "public-room": _namespace("anonymous", chat=True),
}


class Who(NamedTuple):
    """An identity: what its tokens hold, and what may be done with it where."""

    #: Claims of the connect token, given the channel; None: there is no connect token.
    claims: Callable[[str], Json] | None
    #: Claims of the subscription token; None: there is none.
    grant: Json | None
    #: Letters of the actions (subscribe, publish, history, presence) that each access lets it do.
    may: dict[str, str]
    is_user: bool = True


def _elsewhere(channel: str) -> str:
    return channel.rpartition(":")[0] + ":elsewhere"


#: The expectation, written by hand: rows are identities, columns the access that a namespace asks for.
WHO = {
    "anonymous": Who(
        None,
        None,
        {"anonymous": "sphc", "authenticated": "", "token": "", "nobody": ""},
        is_user=False,
    ),
    "a user": Who(
        lambda channel: {},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "", "nobody": ""},
    ),
    "a user with the capability": Who(
        lambda channel: {"caps": allow(channel, *_EVERYTHING)},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "sphc", "nobody": ""},
    ),
    "a user with a part of the capability": Who(
        lambda channel: {"caps": allow(channel, "sub", "hst")},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "sh", "nobody": ""},
    ),
    "a user with a capability by prefix": Who(
        lambda channel: {"caps": allow(channel[:-3] + "*", *_EVERYTHING)},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "sphc", "nobody": ""},
    ),
    "a user with a capability elsewhere": Who(
        lambda channel: {"caps": allow([_elsewhere(channel) + "*", channel + "x"], *_EVERYTHING)},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "", "nobody": ""},
    ),
    "a user with a subscription token": Who(
        lambda channel: {},
        {},
        {"anonymous": "sphc", "authenticated": "sphc", "token": "shc", "nobody": ""},
    ),
    "a user with a subscription token to publish": Who(
        lambda channel: {},
        {"allow": ["pub"]},
        {"anonymous": "sphc", "authenticated": "sphc", "token": "sp", "nobody": ""},
    ),
    "a moderator": Who(
        lambda channel: {"caps": allow(channel, "mod")},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "", "nobody": ""},
    ),
    "anonymous with the capability": Who(
        lambda channel: {"caps": allow(channel, *_EVERYTHING)},
        None,
        {"anonymous": "sphc", "authenticated": "sphc", "token": "sphc", "nobody": ""},
        is_user=False,
    ),
}

_LETTER = {
    "subscribe": "s",
    "publish": "p",
    "history": "h",
    "presence": "c",
    "presence_stats": "c",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(redis_process: RedisProcess) -> AsyncIterator[NodeProcess]:
    async with running(redis_process.url, {"tokens": TOKENS, "namespaces": NAMESPACES}) as (node,):
        yield node


async def _attempt(client: Client, action: str, channel: str, **params: Any) -> bool:
    """Whether it is allowed; an error other than 103 is none that permissions give."""
    if action == "publish":
        params["data"] = {"text": "hello"}
    reply = await client.command(action, channel=channel, **params)
    if "error" in reply:
        assert reply["error"]["code"] == 103, reply
        assert not reply["error"].get("temporary"), reply
        return False
    return True


async def _try_everything(
    gate: NodeProcess, who: Who, channel: str, user: str, expected: str, redis: Redis
) -> None:
    claims = None if who.claims is None else who.claims(channel)
    async with open_client(gate.url, connect=False) as client:
        await client.connect(**({} if claims is None else {"token": token(user, **claims)}))
        request: Json = {}
        if who.grant is not None:
            request = {"subscribe": {"token": token(user, channel=channel, **who.grant)}}
        allowed = {
            action: await _attempt(client, action, channel, **request.get(action, {})) for action in _ACTIONS
        }
        assert allowed == {action: _LETTER[action] in expected for action in _ACTIONS}
        # What was answered is what was done.
        assert await redis.xlen(channel) == ("p" in expected)
        await add(redis, channel, "the end")
        if "s" in expected:
            while await client.next_data(channel) != "the end":
                pass
        else:
            await client.command("ping")
            assert client.pushes_now() == []


@pytest.mark.parametrize("access", _ACCESS)
@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
async def test_every_identity_with_every_access(
    gate: NodeProcess, redis: Redis, name: Name, who: Who, access: str
) -> None:
    user = someone() if who.is_user else ""
    await _try_everything(gate, who, name(access), user, who.may[access], redis)


async def test_whether_it_would_help_to_sign_in(gate: NodeProcess, name: Name) -> None:
    """The text of the refusal says so, and only where it would."""
    async with open_client(gate.url) as client:
        for access, said in (
            ("authenticated", "permission denied: sign in first"),
            ("nobody", "permission denied"),
        ):
            for action in _ACTIONS:
                params = {"data": 1} if action == "publish" else {}
                error = await client.error(action, channel=name(access), **params)
                assert (error["code"], error["message"]) == (103, said), action
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(someone()))
        error = await client.error("subscribe", channel=name("nobody"))
        assert error["message"] == "permission denied"


@pytest.mark.parametrize("access", _ACCESS)
@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
async def test_ones_own_personal_channel(gate: NodeProcess, redis: Redis, who: Who, access: str) -> None:
    """A user may do there what they may elsewhere; who is nobody has none."""
    user = someone() if who.is_user else ""
    channel = f"personal-{access}:{user or someone()}"
    await _try_everything(gate, who, channel, user, who.may[access] if who.is_user else "", redis)


@pytest.mark.parametrize("access", _ACCESS)
@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
async def test_the_personal_channel_of_another(
    gate: NodeProcess, redis: Redis, who: Who, access: str
) -> None:
    """Nobody may do anything there, whatever a token says."""
    user = someone() if who.is_user else ""
    await _try_everything(gate, who, f"personal-{access}:{someone('bob')}", user, "", redis)


@pytest.mark.parametrize("prefix", ["", "x", "-"])
async def test_an_id_that_begins_like_another(gate: NodeProcess, prefix: str) -> None:
    user = someone()
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user))
        own = f"personal-authenticated:{user}"
        for other in (
            own + (prefix or ":"),
            own[:-1],
            own.upper().replace("PERSONAL", "personal"),
            own + ":",
        ):
            assert (await client.error("subscribe", channel=other))["code"] in (102, 103)


async def test_a_subscription_token_counts_while_subscribed(gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("token")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user))
        assert not await _attempt(client, "history", channel)
        await client.subscribe(channel, token=token(user, channel=channel))
        assert await _attempt(client, "history", channel)
        assert not await _attempt(client, "history", name("token"))
        await client.call("unsubscribe", channel=channel)
        assert not await _attempt(client, "history", channel)
        assert not await _attempt(client, "subscribe", channel)


async def test_a_refresh_brings_other_capabilities(gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("token")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(user, caps=allow(channel, "pub")))
        assert await _attempt(client, "publish", channel)
        await client.call("refresh", token=token(user))
        assert not await _attempt(client, "publish", channel)
        await client.call("refresh", token=token(user, caps=allow(channel, "sub")))
        assert not await _attempt(client, "publish", channel)
        assert await _attempt(client, "subscribe", channel)


@pytest.mark.parametrize(
    ("namespace", "is_user", "actions", "allowed"),
    [
        ("room", True, ("mod",), True),
        ("room", True, _EVERYTHING, False),
        ("room", True, (), False),
        ("public-room", True, ("mod",), True),
        ("public-room", False, ("mod",), False),
        ("public-room", False, (), False),
    ],
)
async def test_moderating(
    gate: NodeProcess, name: Name, namespace: str, is_user: bool, actions: tuple[str, ...], allowed: bool
) -> None:
    """Takes the capability, and a name: what a moderator does is written down under it."""
    channel, victim = name(namespace), someone("bob")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=token(someone() if is_user else "", caps=allow(channel, *actions)))
        for method, data in (
            ("chat.mute", {"user": victim, "seconds": 60}),
            ("chat.ban", {"user": victim, "seconds": 60}),
            ("chat.set_role", {"user": victim, "role": "moderator"}),
            ("chat.purge", {"user": victim}),
            ("chat.set_room", {"title": "taken over"}),
            ("chat.audit", {}),
        ):
            reply = await client.command("rpc", method=method, data={"channel": channel, **data})
            assert ("error" not in reply) is allowed, reply
            if not allowed:
                assert reply["error"]["code"] == 103, reply
        elsewhere = {"channel": name(namespace), "user": victim}
        assert (await client.error("rpc", method="chat.ban", data=elsewhere))["code"] == 103
