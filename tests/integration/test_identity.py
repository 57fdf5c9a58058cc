"""Who a client is, as its tokens say: which are taken, which are refused, and when what they allow ends."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import OTHER_SECRET, SECRET, TOKENS, allow, from_now, refused, someone, token
from tests.support.ws_client import Client, Json, open_client
from tests.unit.fakes.keypairs import private_key, public_pem

Name = Callable[[str], str]

#: What every good token of these tests holds.
PARTY = {"aud": "streamgate", "iss": "https://app.example"}

ALGORITHMS = ("RS256", "ES256", "EdDSA")

NAMESPACES: Json = {
    "open": {"mode": "log", "history_size": 0, "presence": "authenticated"},
    "token": {"mode": "log", "history_size": 0, "subscribe": "token"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(
    redis_process: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NodeProcess]:
    """A node with two secrets and a key of each kind."""
    directory = tmp_path_factory.mktemp("keys")
    files = [str(_write(directory / algorithm, algorithm)) for algorithm in ALGORITHMS]
    (directory / "secret").write_text(OTHER_SECRET + "\n")
    tokens = TOKENS | {
        "hmac_secret_files": [str(directory / "secret")],
        "public_key_files": files,
        "audience": PARTY["aud"],
        "issuer": PARTY["iss"],
    }
    async with running(redis_process.url, {"tokens": tokens, "namespaces": NAMESPACES}) as (node,):
        yield node


def _write(path: Path, algorithm: str) -> Path:
    path.write_bytes(public_pem(private_key(algorithm)))
    return path


def _good(user: str = "", **claims: Any) -> str:
    return token(user, **PARTY | claims)


def _key(algorithm: str) -> Any:
    return SECRET if algorithm.startswith("HS") else private_key(algorithm)


# What is taken


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *ALGORITHMS])
async def test_algorithms(gate: NodeProcess, name: Name, algorithm: str) -> None:
    """A connect token and a subscription token of each; the client is who they say."""
    user, channel = someone(), name("token")
    how = {"key": _key(algorithm), "algorithm": algorithm}
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(user, **how))
        await client.subscribe(channel, token=_good(user, channel=channel, **how))
        assert await _user(client, name("open")) == user


async def _user(client: Client, channel: str) -> str:
    """Who the node takes the client for."""
    await client.subscribe(channel)
    (info,) = (await client.call("presence", channel=channel))["presence"].values()
    return str(info["user"])


@pytest.mark.parametrize("key", [SECRET, OTHER_SECRET])
async def test_two_secrets_at_once(gate: NodeProcess, name: Name, key: str) -> None:
    """Tokens by the old one and by the new one are good while both are configured."""
    user, channel = someone(), name("token")
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(user, key=key))
        other = SECRET if key == OTHER_SECRET else OTHER_SECRET
        await client.subscribe(channel, token=_good(user, key=other, channel=channel))
        await client.call("refresh", token=_good(user, key=other))


async def test_an_audience_among_others(gate: NodeProcess) -> None:
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(someone(), aud=["elsewhere", "streamgate"]))


# What is refused


def _unsigned(algorithm: str, user: str, **claims: Any) -> str:
    parts = {"alg": algorithm, "typ": "JWT"}, {"sub": user} | PARTY | claims
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


def _confused(algorithm: str, user: str, **claims: Any) -> str:
    """Signed with a public key as if it were a shared secret; PyJWT would refuse to."""
    hs = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    message = _unsigned("HS256", user, **claims).rstrip(".")
    signature = hs.sign(message.encode(), public_pem(private_key(algorithm)))
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _tampered(user: str, **claims: Any) -> str:
    """The claims of one token with the signature of another."""
    mine, theirs = _good("mallory", **claims).split("."), _good(user, **claims).split(".")
    return ".".join([*theirs[:2], mine[2]])


#: Reason to a maker of such a token, given the user and further claims.
BAD: list[tuple[str, Callable[..., str]]] = [
    ("malformed", lambda user, **claims: "not a token"),
    ("malformed", lambda user, **claims: _good(user, **claims, padding="x" * 8192)),
    ("malformed", lambda user, **claims: _good(user, headers={"crit": ["x"], "x": 1}, **claims)),
    ("none", lambda user, **claims: _unsigned("none", user, **claims)),
    ("none", lambda user, **claims: _unsigned("nOnE", user, **claims)),
    ("signature", lambda user, **claims: _unsigned("HS256", user, **claims)),
    ("signature", lambda user, **claims: _confused("RS256", user, **claims)),
    ("signature", lambda user, **claims: _confused("EdDSA", user, **claims)),
    ("signature", lambda user, **claims: _good(user, key=SECRET[::-1], **claims)),
    ("signature", lambda user, **claims: _tampered(user, **claims)),
    (
        "signature",
        lambda user, **claims: _good(user, key=private_key("RS256", 1), algorithm="RS256", **claims),
    ),
    (
        "algorithm",
        lambda user, **claims: _good(user, key=private_key("ES512"), algorithm="ES512", **claims),
    ),
    ("audience", lambda user, **claims: token(user, iss=PARTY["iss"], **claims)),
    ("audience", lambda user, **claims: _good(user, aud="streamgate2", **claims)),
    ("issuer", lambda user, **claims: token(user, aud=PARTY["aud"], **claims)),
    ("issuer", lambda user, **claims: _good(user, iss="https://app.example.evil.example", **claims)),
    ("not_yet_valid", lambda user, **claims: _good(user, nbf=from_now(60), **claims)),
    ("not_yet_valid", lambda user, **claims: _good(user, iat=from_now(60), **claims)),
    ("claims", lambda user, **claims: _good(user, exp="tomorrow", **claims)),
    ("claims", lambda user, **claims: _good(user, b64info="{}", **claims)),
]
_IDS = [f"{number}-{reason}" for number, (reason, _) in enumerate(BAD)]


async def _failures(node: NodeProcess, reason: str) -> float:
    return await node.metric("streamgate_auth_failures_total", reason=reason)


@pytest.mark.parametrize(("reason", "make"), BAD, ids=_IDS)
async def test_connect_tokens_that_are_no_good(
    gate: NodeProcess, reason: str, make: Callable[..., str]
) -> None:
    before = await _failures(gate, reason)
    await refused(gate.url, make(someone()))
    assert await _failures(gate, reason) == before + 1


@pytest.mark.parametrize(("reason", "make"), BAD, ids=_IDS)
async def test_subscription_tokens_that_are_no_good(
    gate: NodeProcess, name: Name, reason: str, make: Callable[..., str]
) -> None:
    """Error 103, even where no token is needed; the session goes on."""
    user = someone()
    before = await _failures(gate, reason)
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(user))
        for channel in (name("token"), name("open")):
            error = await client.error("subscribe", channel=channel, token=make(user, channel=channel))
            assert error["code"] == 103
        assert await _user(client, name("open")) == user
    assert await _failures(gate, reason) == before + 2


async def test_a_token_of_the_other_kind(gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("token")
    before = await _failures(gate, "wrong_kind")
    await refused(gate.url, _good(user, channel=channel))
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(user))
        connect_token = _good(user, caps=allow(channel, "sub"))
        assert (await client.error("subscribe", channel=channel, token=connect_token))["code"] == 103
    assert await _failures(gate, "wrong_kind") == before + 2


async def test_subscription_tokens_of_others(gate: NodeProcess, name: Name) -> None:
    user, channel = someone(), name("token")
    users, channels = [await _failures(gate, f"wrong_{what}") for what in ("user", "channel")]
    async with open_client(gate.url, connect=False) as client:
        await client.connect(token=_good(user))
        for bad in (
            _good(someone("bob"), channel=channel),
            _good("", channel=channel),
            _good(user, channel=name("token")),
            _good(user, channel=channel + "x"),
        ):
            assert (await client.error("subscribe", channel=channel, token=bad))["code"] == 103
    async with open_client(gate.url) as anonymous:
        bad = _good(user, channel=channel)
        assert (await anonymous.error("subscribe", channel=channel, token=bad))["code"] == 103
    assert await _failures(gate, "wrong_user") == users + 3
    assert await _failures(gate, "wrong_channel") == channels + 2


async def test_expired_tokens(gate: NodeProcess, name: Name) -> None:
    """Error 109, so that the SDK gets a new one; the connection stays for it."""
    user, channel = someone(), name("token")
    before = await _failures(gate, "expired")
    async with open_client(gate.url, connect=False) as client:
        assert (await client.error("connect", token=_good(user, exp=from_now(-1))))["code"] == 109
        assert (await client.error("subscribe", channel=channel))["code"] == 101  # not connected
        assert (await client.error("connect", token=_good(user, expire_at=from_now(-1))))["code"] == 109
        await client.connect(token=_good(user))
        old = _good(user, channel=channel, exp=from_now(-1))
        assert (await client.error("subscribe", channel=channel, token=old))["code"] == 109
        await client.subscribe(channel, token=_good(user, channel=channel))
    assert await _failures(gate, "expired") == before + 3
    # Expired is told only to who could have signed it.
    await refused(gate.url, _good(user, exp=from_now(-1), key=SECRET[::-1]))


async def test_secrets_are_nowhere_to_be_seen(gate: NodeProcess, redis: Redis) -> None:
    """Not in the log, after all of this file's refusals or some of them."""
    await refused(gate.url, _good(someone(), key=SECRET[::-1]))
    log = gate.log
    assert "secret" not in log
    assert "eyJ" not in log  # how every JWT begins


# Anonymous


async def test_anonymous_where_no_namespace_allows_it(
    start_node: StartNode, redis_process: RedisProcess
) -> None:
    closed = {"subscribe": "authenticated", "history": "authenticated"}
    names = ("log", "latest", "quotes", "scores", "flat", "closed", "user")
    namespaces: Json = dict.fromkeys(names, closed)
    namespaces["chat"] = closed | {"publish": "authenticated", "presence": "authenticated"}
    node = await start_node(redis_process.url, {"tokens": TOKENS, "namespaces": namespaces})
    async with open_client(node.url, connect=False) as client:
        assert (await client.error("connect"))["code"] == 101
        assert (await client.error("subscribe", channel="log:x"))["code"] == 101
        assert (await client.error("connect", token=token(info={"name": "Ann"})))["code"] == 101
        assert await _failures(node, "anonymous") == 2
        assert (await client.connect(token=token(someone())))["client"]
