"""identity.tokens: good tokens are read in full; each way to be no good has its reason and its counter."""

from __future__ import annotations

import base64
import hmac
import logging
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from pydantic import SecretStr

from service.identity.identity import Capability, Grant, Override, ServerSubscription
from service.identity.tokens import MAX_BYTES, TokenExpired, TokenRefused, TokenVerifier
from service.metrics import Metrics
from service.sections import TokenSettings
from tests.unit.fakes.keypairs import SECRET, private_key, public_pem

#: The time of all tests, in Unix seconds.
NOW = 1_800_000_000


def _verifier(metrics: Metrics | None = None, **settings: Any) -> TokenVerifier:
    settings.setdefault("hmac_secrets", (SecretStr(SECRET),))
    return TokenVerifier(TokenSettings(**settings), metrics or Metrics(), clock=lambda: NOW)


def _token(claims: dict[str, Any], algorithm: str = "HS256", key: Any = SECRET, **header: Any) -> str:
    return jwt.encode(claims, key, algorithm, headers=header or None)


def _raw(header: object, claims: bytes, secret: str = SECRET) -> str:
    """A token made by hand, as PyJWT refuses to make it, with a good signature."""
    message = b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=") for part in (orjson.dumps(header), claims)
    )
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), message, "sha256")).rstrip(b"=")
    return (message + b"." + signature).decode()


def _refused(token: str, verifier: TokenVerifier | None = None) -> TokenRefused:
    """How a connect token is refused; it is counted under its reason."""
    metrics = Metrics()
    verifier = verifier or _verifier()
    verifier._metrics = metrics
    with pytest.raises(TokenRefused) as info:
        verifier.connect(token)
    reason = info.value.reason
    assert metrics.registry.get_sample_value("streamgate_auth_failures_total", {"reason": reason}) == 1
    return info.value


def _claims_text(claims: dict[str, Any]) -> str:
    exc = _refused(_token(claims))
    assert exc.reason == "claims"
    return str(exc)


# What is read


def test_all_claims_of_a_connect_token() -> None:
    """They become the identity, JSON on one line."""
    identity = _verifier().connect(
        _token(
            {
                "sub": "42",
                "exp": NOW + 60,
                "iat": NOW - 1,
                "nbf": NOW - 1,
                "jti": "a",
                "info": {"name": "Ann\n"},
                "channels": ["news:1"],
                "subs": {
                    "chat:lobby": {
                        "info": {"a": 1},
                        "b64data": base64.b64encode(b'{ "b": 2 }').decode(),
                        "override": {"presence": {"value": False}, "join_leave": {"value": True}},
                    }
                },
                "meta": {"plan": "free"},
                "caps": [
                    {"channels": ["chat:*", "*"], "allow": ["pub", "mod"], "match": "wildcard"},
                    {"channels": ["news:1"], "allow": ["sub", "hst", "prs"]},
                ],
            }
        )
    )
    assert identity.user == "42"
    assert identity.info == b'{"name":"Ann\\n"}'
    assert (identity.expires_at, identity.issued_at) == (NOW + 60, NOW - 1)
    assert identity.meta == b'{"plan":"free"}'
    assert identity.subscriptions == {
        "news:1": ServerSubscription(),
        "chat:lobby": ServerSubscription(b'{"a":1}', b'{"b":2}', Override(presence=False, join_leave=True)),
    }
    assert identity.capabilities == (
        Capability(("chat:*", "*"), frozenset(("publish", "moderate"))),
        Capability(("news:1",), frozenset(("subscribe", "history", "presence"))),
    )


def test_a_token_may_say_nothing() -> None:
    """Then it is anybody's, for ever."""
    identity = _verifier().connect(_token({}))
    assert (identity.user, identity.info, identity.expires_at, identity.issued_at) == ("", None, None, None)
    assert (identity.capabilities, dict(identity.subscriptions), identity.meta) == ((), {}, None)


def test_b64info_wins_over_info() -> None:
    """As base64 of JSON, which is put on one line: a line break would end the frame."""
    encoded = base64.b64encode(b'{\n "a": [1, 2]\n}').decode()
    assert _verifier().connect(_token({"info": 1, "b64info": encoded})).info == b'{"a":[1,2]}'


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW + 60, "expire_at": NOW + 5}, NOW + 5),
        ({"exp": NOW + 60, "expire_at": 0}, None),
        ({"expire_at": NOW + 5}, NOW + 5),
        ({"exp": NOW + 0.5}, NOW + 0.5),
    ],
)
def test_expire_at_overrides_exp(claims: dict[str, Any], expected: float | None) -> None:
    """For the connection and for the subscription; 0 is never."""
    assert _verifier().connect(_token(claims)).expires_at == expected
    grant = _verifier().subscription(_token(claims | {"channel": "c"}), "", "c")
    assert grant.expires_at == expected


def test_all_claims_of_a_subscription_token() -> None:
    """They become the grant; subscribing is always in it."""
    token = _token(
        {
            "sub": "42",
            "channel": "chat:lobby",
            "info": {"a": 1},
            "exp": NOW + 60,
            "iat": NOW,
            "override": {
                "force_push_join_leave": {"value": True},
                "join_leave": {"value": False},
                "force_recovery": {"value": True},
                "unheard_of": 1,
            },
            "allow": ["pub", "hst"],
        }
    )
    assert _verifier().subscription(token, "42", "chat:lobby") == Grant(
        b'{"a":1}',
        NOW + 60,
        NOW,
        Override(join_leave=True),
        frozenset(("subscribe", "publish", "history")),
    )


def test_a_grant_allows_to_look_on() -> None:
    """Where the token does not say what is allowed; an empty list leaves subscribing alone."""
    base = {"channel": "c"}
    assert _verifier().subscription(_token(base), "", "c").actions == {"subscribe", "history", "presence"}
    assert _verifier().subscription(_token(base | {"allow": []}), "", "c").actions == {"subscribe"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_any_of_several_secrets(algorithm: str) -> None:
    """So that they can be rolled: the old one counts until it is taken out."""
    new = SECRET + " and more"
    both = _verifier(hmac_secrets=(SecretStr(new), SecretStr(SECRET)))
    for key in (new, SECRET):
        assert both.connect(_token({"sub": "a"}, algorithm, key)).user == "a"
    assert _refused(_token({}, algorithm), _verifier(hmac_secrets=(SecretStr(new),))).reason == "signature"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_public_keys(tmp_path: Path, algorithm: str) -> None:
    """Each kind verifies its own tokens, beside the secrets, and no others."""
    path = tmp_path / "key.pem"
    path.write_bytes(public_pem(private_key(algorithm)))
    verifier = _verifier(public_key_files=(path,))
    assert verifier.connect(_token({"sub": "a"}, algorithm, private_key(algorithm))).user == "a"
    assert verifier.connect(_token({"sub": "b"})).user == "b"
    other = _token({"sub": "a"}, algorithm, private_key(algorithm, 1))
    assert _refused(other, verifier).reason == "signature"


# What is refused


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_never_a_secret(tmp_path: Path, algorithm: str) -> None:
    """The forger takes the public PEM for an HMAC secret ("alg confusion")."""
    pem = public_pem(private_key(algorithm))
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    forged = _raw({"alg": "HS256", "typ": "JWT"}, b'{"sub":"admin"}', pem.decode())
    assert _refused(forged, _verifier(hmac_secrets=(), public_key_files=(path,))).reason == "algorithm"
    assert _refused(forged, _verifier(public_key_files=(path,))).reason == "signature"


@pytest.mark.parametrize("name", ["none", "None", "nOnE"])
def test_unsigned_tokens(name: str) -> None:
    """However `none` is written, with a signature or without."""
    signed = _raw({"alg": name}, b"{}")
    assert _refused(signed).reason == "none"
    assert _refused(signed[: signed.rindex(".") + 1]).reason == "none"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "HS1", "PS256", "dir", ""])
def test_an_algorithm_without_a_key(algorithm: str) -> None:
    """The text says which algorithms have one."""
    exc = _refused(_raw({"alg": algorithm}, b"{}"))
    assert exc.reason == "algorithm"
    assert "allowed: HS256, HS384, HS512" in str(exc)
    exc = _refused(_raw({"alg": "HS256"}, b"{}"), _verifier(hmac_secrets=()))
    assert "no key is configured" in str(exc)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "é.é.é",
        "\ud800",
        _raw({"alg": "HS256"}, b"[]"),
        _raw({"alg": "HS256"}, b"{"),
        _raw([], b"{}"),
        _raw({}, b"{}"),
        _raw({"alg": 1}, b"{}"),
        _raw({"alg": "HS256", "kid": 1}, b"{}"),
        _raw({"alg": "HS256", "crit": ["b64"], "b64": False}, b"{}"),
        _token({}) + "=",
        _token({}) + "\n",
        " " + _token({}),
    ],
)
def test_malformed_tokens(token: str) -> None:
    """What is no JWT, or asks for what we do not know."""
    assert _refused(token).reason == "malformed"


def test_a_large_token_is_not_looked_at() -> None:
    """The bound is told."""
    exc = _refused(_token({"info": "x" * MAX_BYTES}))
    assert exc.reason == "malformed"
    assert f"allowed: {MAX_BYTES}" in str(exc)


def test_a_changed_token() -> None:
    """Any other claims need another signature."""
    header, _, signature = _token({"sub": "a"}).split(".")
    other = _token({"sub": "b"}, key="another secret of another service!").split(".")[1]
    assert _refused(f"{header}.{other}.{signature}").reason == "signature"


def test_times_have_a_leeway() -> None:
    """Five seconds, for exp, nbf and iat."""
    for good in ({"exp": NOW - 4}, {"nbf": NOW + 5}, {"iat": NOW + 5}, {"expire_at": NOW - 4}):
        _verifier().connect(_token(good))
    for claims in ({"exp": NOW - 5}, {"expire_at": NOW - 5}, {"exp": 0}, {"exp": NOW - 5, "expire_at": 0}):
        exc = _refused(_token(claims))
        assert isinstance(exc, TokenExpired)
        assert exc.reason == "expired"
    for early in ({"nbf": NOW + 6}, {"iat": NOW + 6}):
        assert _refused(_token(early)).reason == "not_yet_valid"


def test_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute for each reason, and nothing of the token; expiry is no reason to look there."""
    verifier = _verifier(audience="chat")
    with caplog.at_level(logging.INFO):
        for claims in (
            {"aud": "web"},
            {"aud": "sky"},
            {"aud": "chat", "exp": NOW - 60},
            {"aud": "chat", "sub": 1},
        ):
            _refused(_token(claims), verifier)
    assert [record.getMessage() for record in caplog.records] == [
        "a token was refused (audience): aud does not name this service",
        "a token was refused (claims): sub must be a string",
    ]


def test_audience() -> None:
    """One string or several; where none is configured nobody looks."""
    verifier = _verifier(audience="chat")
    for good in ("chat", ["web", "chat"]):
        verifier.connect(_token({"aud": good}))
    for bad in ("web", ["web"], [], "chats", None):
        assert _refused(_token({"aud": bad}), verifier).reason == "audience"
    assert _refused(_token({}), verifier).reason == "audience"
    _verifier().connect(_token({"aud": "web"}))


def test_issuer() -> None:
    """Where none is configured nobody looks."""
    verifier = _verifier(issuer="https://id")
    verifier.connect(_token({"iss": "https://id"}))
    assert _refused(_token({}), verifier).reason == "issuer"
    assert _refused(_token({"iss": "https://other"}), verifier).reason == "issuer"
    _verifier().connect(_token({"iss": "anybody"}))


def test_a_new_token_helps_only_where_nothing_else_is_wrong() -> None:
    """SDKs ask for one on 109: expiry is looked at last."""
    verifier = _verifier(audience="chat")
    assert _refused(_token({"exp": NOW - 60, "aud": "web"}), verifier).reason == "audience"


def test_the_kinds_are_not_mixed_up() -> None:
    """A subscription token connects nobody, and a connect token subscribes to nothing."""
    assert _refused(_token({"sub": "a", "channel": ""})).reason == "wrong_kind"
    with pytest.raises(TokenRefused) as info:
        _verifier().subscription(_token({"sub": "a"}), "a", "c")
    assert info.value.reason == "wrong_kind"


@pytest.mark.parametrize(
    ("user", "channel", "reason"),
    [("b", "c", "wrong_user"), ("", "c", "wrong_user"), ("a", "d", "wrong_channel")],
)
def test_a_grant_is_for_one_user_and_channel(user: str, channel: str, reason: str) -> None:
    """Of others it is refused, and counted."""
    metrics = Metrics()
    with pytest.raises(TokenRefused) as info:
        _verifier(metrics).subscription(_token({"sub": "a", "channel": "c"}), user, channel)
    assert info.value.reason == reason
    assert metrics.registry.get_sample_value("streamgate_auth_failures_total", {"reason": reason}) == 1


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"sub": 1}, "sub must be a string"),
        ({"exp": "soon"}, "exp must be a number"),
        ({"exp": True}, "exp must be a number"),
        ({"exp": -1}, "exp must be a number of Unix seconds from 0 to 2^53 - 1"),
        ({"iat": []}, "iat must be a number"),
        ({"nbf": 1e300}, "nbf must be a number"),
        ({"expire_at": {}}, "expire_at must be a number"),
        ({"b64info": 1}, "b64info must be a string"),
        ({"b64info": "e30"}, "b64info must be base64 of JSON"),
        ({"b64info": "bm8="}, "b64info must be base64 of JSON"),
        ({"channels": "chat:a"}, "channels must be a list of strings"),
        ({"channels": [1]}, "channels must be a list of strings"),
        ({"channels": ["a b"]}, "channels and subs: a channel name has no ' '"),
        ({"subs": []}, "subs must be an object"),
        ({"subs": {"": {}}}, "a channel name is not empty"),
        ({"subs": {"c": 1}}, "subs must hold an object for each channel"),
        ({"subs": {"c": {"b64data": "x"}}}, "subs: b64data must be base64 of JSON"),
        ({"subs": {"c": {"override": 1}}}, "subs: override must be an object"),
        (
            {"subs": {"c": {"override": {"presence": {"value": 1}}}}},
            'override.presence must be {"value": true}',
        ),
        ({"caps": {}}, "caps must be a list of objects"),
        ({"caps": [1]}, "caps must be a list of objects"),
        ({"caps": [{"channels": ["c"], "match": "regex"}]}, "no regular expressions"),
        (
            {"caps": [{"channels": ["chat:*"]}]},
            '(match ""; * only with "wildcard", at the end): a channel name has no \'*\'',
        ),
        ({"caps": [{"channels": ["a*b"], "match": "wildcard"}]}, '* only with "wildcard", at the end'),
        ({"caps": [{"channels": ["a**"], "match": "wildcard"}]}, '* only with "wildcard", at the end'),
        ({"caps": [{"channels": ["c"], "allow": ["all"]}]}, "some of sub, pub, hst, prs, mod"),
        ({"caps": [{"channels": ["c"], "allow": "pub"}]}, "allow must be a list of strings"),
    ],
)
def test_claims_of_a_wrong_type(claims: dict[str, Any], text: str) -> None:
    """The claim and what is allowed are told."""
    assert text in _claims_text(claims)


def test_info_may_not_be_bottomless() -> None:
    """What cannot be encoded again is refused."""
    deep = b'{"info":' + b"[" * 500 + b"]" * 500 + b"}"
    exc = _refused(_raw({"alg": "HS256"}, deep))
    assert (exc.reason, str(exc)) == ("claims", "info is nested too deeply")


async def test_without_a_jwks_there_is_nothing_to_fetch() -> None:
    """A token's kid is passed over: keys of the settings have none."""
    verifier = _verifier()
    assert verifier.connect(_token({"sub": "a"}, kid="7")).user == "a"
    await verifier.refresh()
    await verifier.aclose()
