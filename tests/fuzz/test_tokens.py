"""identity.tokens: whatever a token says, it becomes an Identity or a Grant, or is refused; nothing else."""

from __future__ import annotations

import base64
import functools
import hmac
import tempfile
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.channels import parse as parse_channel
from service.identity import jwks
from service.identity.identity import Grant, Identity
from service.identity.keys import HMAC_ALGORITHMS, PUBLIC_ALGORITHMS
from service.identity.tokens import TokenRefused, TokenVerifier
from service.metrics import Metrics
from service.sections import TokenSettings
from tests.unit.fakes.keypairs import SECRET, private_key, public_pem

NOW = 1_800_000_000

_ALGORITHMS = sorted(PUBLIC_ALGORITHMS)

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["chat:*", "chat:lobby", "pub", "wildcard", "exact", "e30=", "W10="])
)
_json = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(
                ["channels", "allow", "match", "info", "data", "override", "presence", "value"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_names = st.sampled_from(
    [
        *("sub", "exp", "iat", "nbf", "jti", "aud", "iss", "info", "b64info", "channels", "subs", "meta"),
        *("expire_at", "caps", "channel", "override", "allow"),
    ]
)
_times = st.integers(NOW - 10, NOW + 10)
_channels = st.text("ab:_", min_size=1, max_size=6).map(lambda text: f"n:{text}")

#: Claims that are meant to be good.
_good = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.text(max_size=8),
        "exp": st.integers(NOW + 1, NOW + 100),
        "iat": st.integers(NOW - 100, NOW),
        "nbf": st.integers(NOW - 100, NOW),
        "info": _json,
        "meta": _json,
        "channels": st.lists(_channels, max_size=3),
        "subs": st.dictionaries(
            _channels, st.fixed_dictionaries({}, optional={"info": _json, "data": _json})
        ),
        "caps": st.lists(
            st.fixed_dictionaries(
                {
                    "channels": st.lists(_channels.map(lambda name: name + "*"), max_size=3),
                    "allow": st.lists(st.sampled_from(["sub", "pub", "hst", "prs", "mod"])),
                    "match": st.just("wildcard"),
                }
            ),
            max_size=3,
        ),
    },
)


@functools.cache
def _verifier() -> TokenVerifier:
    """One with a secret and public keys of all kinds."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in _ALGORITHMS]
        for path in paths:
            path.write_bytes(public_pem(private_key(path.name)))
        settings = TokenSettings(
            hmac_secrets=(SecretStr(SECRET),), public_key_files=tuple(paths), leeway_seconds=0
        )
        return TokenVerifier(settings, Metrics(), clock=lambda: NOW)


def _signed(header: Any, claims: bytes, secret: bytes = SECRET.encode(), digest: str = "sha256") -> str:
    message = b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=") for part in (orjson.dumps(header), claims)
    )
    signature = base64.urlsafe_b64encode(hmac.digest(secret, message, digest)).rstrip(b"=")
    return (message + b"." + signature).decode()


def _token(claims: Any) -> str:
    return _signed({"alg": "HS256"}, orjson.dumps(claims))


def _connect(token: str) -> Identity | None:
    """The identity, which is sound; None: refused."""
    try:
        identity = _verifier().connect(token)
    except TokenRefused:
        return None
    assert isinstance(identity, Identity)
    assert isinstance(identity.user, str)
    assert identity.expires_at is None or identity.expires_at > NOW
    for channel, subscription in identity.subscriptions.items():
        parse_channel(channel)
        for part in (subscription.info, subscription.data):
            assert part is None or b"\n" not in part
    for part in (identity.info, identity.meta):
        assert part is None or orjson.dumps(orjson.loads(part)) == part
    for capability in identity.capabilities:
        for name in capability.channels:
            parse_channel(name[:-1] + "x" if name.endswith("*") else name)
    return identity


@given(st.dictionaries(_names, _json | _times, max_size=8), st.text(max_size=3), _channels)
def test_any_claims(claims: dict[str, Any], user: str, channel: str) -> None:
    """Of any type, in either kind of token."""
    token = _token(claims)
    if _connect(token) is not None:
        assert "channel" not in claims
        assert claims.get("exp") is None or claims["exp"] > NOW
    for asked in (channel, claims.get("channel")):
        try:
            grant = _verifier().subscription(token, user, str(asked))
        except TokenRefused:
            continue
        assert isinstance(grant, Grant)
        assert (claims.get("sub") or "", claims["channel"] or "") == (user, asked)
        assert "subscribe" in grant.actions


@given(_good)
def test_good_claims_are_taken(claims: dict[str, Any]) -> None:
    """And become what they say."""
    identity = _connect(_token(claims))
    assert identity is not None
    assert identity.user == claims.get("sub", "")
    assert identity.expires_at == claims.get("exp")
    assert identity.issued_at == claims.get("iat")
    assert identity.info == (None if claims.get("info") is None else orjson.dumps(claims["info"]))
    assert set(identity.subscriptions) == {*claims.get("channels", ()), *claims.get("subs", ())}
    assert len(identity.capabilities) == len(claims.get("caps", ()))


@given(st.text(max_size=200) | st.text("ABCabc019-_=.", max_size=60) | st.binary(max_size=60).map(str))
def test_anything_may_come_as_a_token(token: str) -> None:
    """None of it is one."""
    assert _connect(token) is None


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "jwk", "jku", "x5u"]), _json)
    | st.fixed_dictionaries({"alg": st.sampled_from([*HMAC_ALGORITHMS, *_ALGORITHMS, "none", "NONE"])})
    | _json
)
def test_any_header(header: Any) -> None:
    """By a secret and SHA-256 a token is good as HS256 alone; keys in its header are not looked at."""
    identity = _connect(_signed(header, b'{"sub":"a"}'))
    assert identity is None or header["alg"] == "HS256"


@given(st.integers(0, 10_000), st.characters(max_codepoint=0x17F))
def test_a_changed_letter(position: int, letter: str) -> None:
    """Nobody becomes somebody else by it."""
    token = _token({"sub": "a", "exp": NOW + 60, "info": {"admin": False}})
    place = position % len(token)
    identity = _connect(token[:place] + letter + token[place + 1 :])
    if identity is not None:  # spare bits of the last letter of base64
        assert place == len(token) - 1 or token[place] == letter
        assert (identity.user, identity.info) == ("a", b'{"admin":false}')


@given(
    st.sampled_from(_ALGORITHMS),
    st.sampled_from([*HMAC_ALGORITHMS, *_ALGORITHMS]),
    st.sampled_from(["sha256", "sha384", "sha512"]),
    st.sampled_from(["pem", "bare pem", "der", "raw", "empty"]),
)
def test_a_public_key_is_never_a_secret(key: str, named: str, digest: str, form: str) -> None:
    """The forger signs with the public key in any form, and names any algorithm."""
    public = private_key(key).public_key()
    secrets = {
        "pem": public_pem(private_key(key)),
        "bare pem": public_pem(private_key(key)).strip(),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "raw": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "empty": b"",
    }
    assert _connect(_signed({"alg": named}, b'{"sub":"admin"}', secrets[form], digest)) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "kid", "alg", "use", "n", "e", "crv", "x", "y", "k", "d"]),
            _json
            | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "sig", "HS256"])
            | st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode()),
        )
        | _json,
        max_size=3,
    )
    | _json
)
def test_any_jwks(entries: Any) -> None:
    """It yields public keys, or a ValueError."""
    try:
        keys = jwks.parse(orjson.dumps({"keys": entries}))
    except ValueError as exc:
        assert str(exc).startswith("not ")  # noqa: PT017
        return
    assert all(set(key.algorithms) <= PUBLIC_ALGORITHMS for key in keys)
