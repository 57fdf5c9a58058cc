"""identity.keys: every key knows its algorithms; an unsuitable one is told by setting and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from pydantic import SecretStr

from service.errors import ConfigError
from service.identity import keys
from service.identity.keys import HMAC_ALGORITHMS, PUBLIC_ALGORITHMS, RSA_ALGORITHMS
from service.sections import TokenSettings
from tests.unit.fakes.keypairs import SECRET, private_key, private_pem, public_pem


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes a key file."""

    def write(data: bytes, name: str = "key") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def _refused(**settings: Any) -> str:
    with pytest.raises(ConfigError) as info:
        keys.load(TokenSettings(**settings))
    return str(info.value)


@pytest.mark.parametrize(
    ("algorithm", "own"),
    [
        ("RS256", RSA_ALGORITHMS),
        ("ES256", ("ES256",)),
        ("ES384", ("ES384",)),
        ("ES512", ("ES512",)),
        ("EdDSA", ("EdDSA",)),
    ],
)
def test_a_public_key_is_for_its_kind_alone(file: Any, algorithm: str, own: tuple[str, ...]) -> None:
    """RSA for RS, a curve for its own ES, Ed25519 for EdDSA; none for HS."""
    [key] = keys.load(TokenSettings(public_key_files=(file(public_pem(private_key(algorithm))),)))
    assert key.algorithms == own
    for other in {*HMAC_ALGORITHMS, *PUBLIC_ALGORITHMS, "none", "PS256", "ES256K"} - set(own):
        assert not key.verifies(other, b"message", b"signature")


def test_secrets_come_from_settings_and_files(file: Any) -> None:
    """All count, for all HS; the line break that an editor leaves is no part of a secret."""
    path = file(b"another secret of the file\r\n")
    settings = TokenSettings(hmac_secrets=(SecretStr(SECRET),), hmac_secret_files=(path,))
    assert [secret for _, secret in keys.secrets_of(settings)] == [
        SECRET.encode(),
        b"another secret of the file",
    ]
    assert [key.algorithms for key in keys.load(settings)] == [HMAC_ALGORITHMS] * 2


def test_keys_are_found_by_algorithm(file: Any) -> None:
    """In the order of the settings."""
    found = keys.by_algorithm(
        keys.load(
            TokenSettings(
                hmac_secrets=(SecretStr(SECRET), SecretStr(SECRET + "2")),
                public_key_files=(file(public_pem(private_key("ES256"))),),
            )
        )
    )
    assert {algorithm: len(several) for algorithm, several in found.items()} == {
        "HS256": 2,
        "HS384": 2,
        "HS512": 2,
        "ES256": 1,
    }


def test_a_short_secret_is_refused(file: Any) -> None:
    """From 16 bytes on it is taken; the text says which one it is, not what it is."""
    text = _refused(hmac_secrets=(SecretStr(SECRET), SecretStr("fifteen-bytes-x")))
    assert text.startswith("tokens.hmac_secrets[1]: a secret of 15 bytes")
    assert "at least 16 bytes" in text
    assert "fifteen" not in text
    path = file(b"short\n")
    assert _refused(hmac_secret_files=(path,)).startswith(f"tokens.hmac_secret_files: {path}: a secret of 5")
    assert keys.load(TokenSettings(hmac_secrets=(SecretStr("sixteen-bytes-xx"),)))


def test_a_public_key_is_no_secret() -> None:
    """Whoever has it, and everybody may, could sign tokens."""
    pem = public_pem(private_key("RS256")).decode()
    text = _refused(hmac_secrets=(SecretStr(pem),))
    assert text.startswith("tokens.hmac_secrets[0]: this is a public key")
    assert "tokens.public_key_files" in text
    assert "BEGIN" not in text


@pytest.mark.parametrize("setting", ["hmac_secret_files", "public_key_files"])
def test_a_file_that_cannot_be_read(file: Any, tmp_path: Path, setting: str) -> None:
    """Setting, path and reason are told."""
    missing = tmp_path / "missing"
    assert _refused(**{setting: (missing,)}) == (
        f"tokens.{setting}: {missing}: cannot be read: No such file or directory"
    )
    huge = file(b"x" * (keys.MAX_FILE_BYTES + 1))
    assert "more than 65536 bytes; allowed: one key" in _refused(**{setting: (huge,)})


@pytest.mark.parametrize(
    ("pem", "text"),
    [
        (lambda: b"nonsense", "no public key; allowed: PEM"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (lambda: private_pem(private_key("ES256")), "a private key, which a node must not have"),
        (lambda: public_pem(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits"),
        (lambda: public_pem(ec.generate_private_key(ec.SECP256K1())), "a key of the curve secp256k1"),
        (lambda: public_pem(ed448.Ed448PrivateKey.generate()), "allowed: public keys of RSA, EC or Ed25519"),
    ],
)
def test_unsuitable_public_keys(file: Any, pem: Any, text: str) -> None:
    """What they are and what is allowed are told."""
    path = file(pem())
    message = _refused(public_key_files=(path,))
    assert message.startswith(f"tokens.public_key_files: {path}: ")
    assert text in message


def test_a_key_does_not_show_its_secret() -> None:
    """Not even where it is printed by mistake."""
    [key] = keys.load(TokenSettings(hmac_secrets=(SecretStr(SECRET),)))
    assert "HS256" in repr(key)
    assert SECRET[:8] not in repr(key)
