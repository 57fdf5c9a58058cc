"""identity.jwks: keys are fetched, kept through failures, and fetched again for a key that is not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import orjson
import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import SecretStr

from service.errors import ConfigError, ReplyError
from service.identity.jwks import MAX_BYTES, MAX_KEYS, REFRESH_SECONDS, Jwks, parse
from service.identity.keys import Key
from service.identity.tokens import TokenRefused, TokenVerifier
from service.metrics import Metrics
from service.sections import TokenSettings
from tests.unit.fakes.clock import Clock
from tests.unit.fakes.http_server import HttpServer, Reply, http_server, json
from tests.unit.fakes.keypairs import SECRET, private_key

_WRITERS: dict[str, Any] = {"R": RSAAlgorithm, "E": ECAlgorithm}


def _jwk(algorithm: str, kid: str | None = None, number: int = 0, **more: Any) -> dict[str, Any]:
    writer = OKPAlgorithm if algorithm == "EdDSA" else _WRITERS[algorithm[0]]
    jwk: dict[str, Any] = writer.to_jwk(private_key(algorithm, number).public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return jwk | ({} if kid is None else {"kid": kid}) | more


def _set(*jwks: Any) -> Reply:
    return json({"keys": jwks})


def _signed_by(key: Key, algorithm: str) -> bool:
    message, _, signature = jwt.encode({}, private_key(algorithm), algorithm).encode().rpartition(b".")
    return key.verifies(algorithm, message, jwt.utils.base64url_decode(signature))


def _names(jwks: Jwks, algorithm: str) -> list[str | None]:
    return [key.kid for key in jwks.find(algorithm, None)]


@asynccontextmanager
async def _fetcher(
    server: HttpServer, metrics: Metrics | None = None, seconds: float = 1000, path: str = "/jwks"
) -> AsyncIterator[tuple[Jwks, Clock]]:
    clock = Clock()
    jwks = Jwks(f"http://user:password@127.0.0.1:{server.port}{path}", seconds, metrics or Metrics(), clock)
    try:
        yield jwks, clock
    finally:
        await jwks.aclose()


@asynccontextmanager
async def _running(jwks: Jwks) -> AsyncIterator[None]:
    task = asyncio.create_task(jwks.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


# What is read


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_public_keys_of_each_kind(algorithm: str) -> None:
    """By name, for the algorithms of their kind, or the one they are meant for."""
    [key] = parse(orjson.dumps({"keys": [_jwk(algorithm, "a", use="sig", x5t="more")]}))
    assert (key.kid, key.algorithms[0]) == ("a", algorithm)
    assert _signed_by(key, algorithm)
    [meant] = parse(orjson.dumps({"keys": [_jwk("RS256", alg="RS512")]}))
    assert meant.algorithms == ("RS512",)


def test_unusable_keys_are_passed_over() -> None:
    """Above all symmetric ones: a secret that a URL hands out is none."""
    oct_key = {"kty": "oct", "k": jwt.utils.base64url_encode(SECRET.encode()).decode(), "alg": "HS256"}
    small = {"kty": "RSA", "n": jwt.utils.to_base64url_uint((1 << 1023) + 1).decode(), "e": "AQAB"}
    unusable: list[Any] = [
        oct_key,
        {**oct_key, "kty": "RSA"},
        {**_jwk("RS256"), "alg": "HS256"},
        {**_jwk("RS256"), "use": "enc"},
        {**_jwk("RS256"), "n": 1},
        {**_jwk("ES256"), "crv": "P-384"},
        {**_jwk("ES256"), "x": "AAAA"},
        {**_jwk("EdDSA"), "crv": "Ed448"},
        {**_jwk("EdDSA"), "x": []},
        {**_jwk("EdDSA"), "kid": 1},
        small,
        {"kty": []},
        {},
        "key",
        None,
    ]
    [key] = parse(orjson.dumps({"keys": [*unusable, _jwk("ES256", "good")]}))
    assert (key.kid, key.algorithms) == ("good", ("ES256",))
    for one in unusable:
        with pytest.raises(ValueError, match="not one usable key"):
            parse(orjson.dumps({"keys": [one]}))


def test_a_private_key_is_read_as_its_public_half() -> None:
    """Whoever published it has another problem; tokens are verified all the same."""
    private = ECAlgorithm.to_jwk(private_key("ES256"), as_dict=True)
    assert "d" in private
    [key] = parse(orjson.dumps({"keys": [private]}))
    assert _signed_by(key, "ES256")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b"<html>"])
def test_what_is_no_jwks(body: bytes) -> None:
    """It counts as a failure, so that the old keys stay."""
    with pytest.raises(ValueError, match=r"^not "):
        parse(body)


def test_there_is_a_bound_of_keys() -> None:
    """A token may be tried with each."""
    assert len(parse(orjson.dumps({"keys": [_jwk("EdDSA")] * (MAX_KEYS + 5)}))) == MAX_KEYS


# When it is fetched


async def test_keys_are_fetched_again_and_again() -> None:
    """The new ones replace the old ones."""
    async with http_server(_set(_jwk("ES256", "old")), _set(_jwk("ES256", "new"))) as server:
        async with _fetcher(server, seconds=0.01) as (jwks, _), _running(jwks):
            await server.was_asked(3)
            assert _names(jwks, "ES256") == ["new"]
        assert server.asked[0].path == "/jwks"
        assert server.asked[0].headers["authorization"].startswith("Basic ")


async def test_the_old_keys_stay_when_a_fetch_fails() -> None:
    """Whatever the failure is; it is counted, and clients are told to try again."""
    metrics = Metrics()
    failures = [Reply(status=500), Reply(b"{"), Reply(b" " * (MAX_BYTES + 1)), _set()]
    replies = (_set(_jwk("ES256", "a")), *failures, _set(_jwk("ES256", "b")))
    async with http_server(*replies) as server, _fetcher(server, metrics) as (jwks, clock):
        await jwks.refresh()
        for number, _ in enumerate(failures, 2):
            clock.now += REFRESH_SECONDS
            with pytest.raises(ReplyError) as info:
                await jwks.refresh()
            assert (info.value.code, info.value.temporary) == (100, True)
            assert len(server.asked) == number
            assert _names(jwks, "ES256") == ["a"]
        clock.now += REFRESH_SECONDS
        await jwks.refresh()
        assert _names(jwks, "ES256") == ["b"]
    for reason, count in (("status", 1), ("answer", 2), ("size", 1)):
        labels = {"hook": "jwks", "reason": reason}
        assert metrics.registry.get_sample_value("streamgate_hook_failures_total", labels) == count


async def test_a_failed_fetch_is_tried_again_soon() -> None:
    """Not only after jwks_seconds, which are very many here."""
    replies = (Reply(status=503), Reply(status=503), _set(_jwk("ES256", "a")))
    async with http_server(*replies) as server, _fetcher(server) as (jwks, _), _running(jwks):
        await server.was_asked(3)


async def test_redirects_are_not_followed() -> None:
    """They could lead to where keys are forged."""
    async with http_server(_set(_jwk("ES256", "forged"))) as other:
        moved = Reply(b"", 302, (f"Location: http://127.0.0.1:{other.port}/jwks",))
        async with http_server(moved) as server, _fetcher(server) as (jwks, _):
            with pytest.raises(ReplyError):
                await jwks.refresh()
        assert other.asked == []


async def test_one_fetch_serves_all_who_ask() -> None:
    """And a new one is made at most once in ten seconds: tokens can be forged by the thousand."""
    release = asyncio.Event()
    async with http_server() as server:

        async def respond(_: object) -> Reply:
            await release.wait()
            return _set(_jwk("ES256", "a"))

        server.respond = respond
        async with _fetcher(server) as (jwks, clock):
            asking = [asyncio.create_task(jwks.refresh()) for _ in range(20)]
            await server.was_asked(1)
            asking[0].cancel()  # who gives up leaves it to the others
            release.set()
            await asyncio.gather(*asking[1:])
            assert _names(jwks, "ES256") == ["a"]
            with pytest.raises(ReplyError) as info:  # the key may be newer than what was fetched
                await jwks.refresh()
            assert (info.value.code, info.value.temporary) == (100, True)
            assert len(server.asked) == 1
            clock.now += REFRESH_SECONDS
            await jwks.refresh()
            assert len(server.asked) == 2


async def test_the_log_holds_no_password_and_no_query(caplog: pytest.LogCaptureFixture) -> None:
    """Host and path say which URL it is."""
    caplog.set_level(logging.INFO)
    async with http_server(Reply(status=404)) as server:
        async with _fetcher(server, path="/jwks?key=secret") as (jwks, _):
            with pytest.raises(ReplyError):
                await jwks.refresh()
        assert f"no keys from http://127.0.0.1:{server.port}/jwks, " in caplog.text
        assert "status 404" in caplog.text
    assert "password" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://", "http://[", "https:///keys", "http://user:password@"])
def test_a_url_that_cannot_be_asked(url: str) -> None:
    """It is found at the start; the text does not hold it."""
    with pytest.raises(ConfigError, match=r"^tokens\.jwks_url: not a URL") as info:
        Jwks(url, 300, Metrics())
    assert "password" not in str(info.value)


# Tokens


@asynccontextmanager
async def _verifier(server: HttpServer, **settings: Any) -> AsyncIterator[TokenVerifier]:
    url = f"http://127.0.0.1:{server.port}/jwks"
    verifier = TokenVerifier(TokenSettings(jwks_url=url, **settings), Metrics())
    try:
        yield verifier
    finally:
        await verifier.aclose()


def _token(kid: str | None, algorithm: str = "ES256", number: int = 0) -> str:
    headers = None if kid is None else {"kid": kid}
    return jwt.encode({"sub": "a"}, private_key(algorithm, number), algorithm, headers=headers)


def _reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(TokenRefused) as info:
        verifier.connect(token)
    return info.value.reason


async def test_a_key_that_is_not_there_is_fetched() -> None:
    """Told by the reason; after refresh the token is good."""
    async with http_server(_set(_jwk("ES256", "1"))) as server, _verifier(server) as verifier:
        for kid in ("1", None):
            assert _reason(verifier, _token(kid)) == "unknown_key"
        await verifier.refresh()
        for kid in ("1", None):
            assert verifier.connect(_token(kid)).user == "a"
        assert _reason(verifier, _token("2")) == "unknown_key"
        assert _reason(verifier, _token("1", number=1)) == "signature"
        assert _reason(verifier, _token("1", "ES384")) == "unknown_key"


async def test_a_name_that_two_keys_have() -> None:
    """All of them are tried, and so are keys without a name."""
    keys = (_jwk("ES256", "1", 1), _jwk("ES256", "1", 2), _jwk("RS256", "1"), _jwk("ES256", None, 3))
    async with http_server(_set(*keys)) as server, _verifier(server) as verifier:
        await verifier.refresh()
        for number in (1, 2, 3):
            assert verifier.connect(_token("1", number=number)).user == "a"
        assert verifier.connect(_token("1", "RS256")).user == "a"


async def test_nobody_makes_us_fetch_for_a_shared_secret() -> None:
    """A JWKS has none; keys of the settings count beside it."""
    async with http_server(_set(_jwk("ES256", "1"))) as server:
        async with _verifier(server, hmac_secrets=(SecretStr(SECRET),)) as verifier:
            token = jwt.encode({}, SECRET + "x", "HS256", headers={"kid": "2"})
            assert _reason(verifier, token) == "signature"
            assert verifier.connect(jwt.encode({"sub": "b"}, SECRET, "HS256")).user == "b"
        async with _verifier(server) as verifier:
            assert _reason(verifier, token) == "algorithm"


async def test_run_fetches_at_the_start() -> None:
    """So that the first client does not wait for it."""
    async with http_server(_set(_jwk("ES256", "1"))) as server, _verifier(server) as verifier:
        task = asyncio.create_task(verifier.run())
        await server.was_asked(1)
        await verifier.refresh()  # joins the fetch under way
        assert len(server.asked) == 1
        assert verifier.connect(_token("1")).user == "a"
        task.cancel()
        await asyncio.wait([task])
