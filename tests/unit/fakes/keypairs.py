"""Keys that sign tokens in tests, made once for a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

#: A shared secret that is long enough.
SECRET = "a secret of more than sixty-four bytes, so that PyJWT has nothing to say of it"

_MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "RS384": lambda: rsa.generate_private_key(65537, 2048),
    "RS512": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": lambda: ed25519.Ed25519PrivateKey.generate(),
}


def private_key(algorithm: str, number: int = 0) -> Any:
    """A private key for the algorithm; with another number another one."""
    return _made(algorithm, number)


@functools.cache
def _made(algorithm: str, number: int) -> Any:
    return _MAKERS[algorithm]()


def public_pem(key: Any) -> bytes:
    """The public key in PEM."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(pem, bytes)
    return pem


def private_pem(key: Any) -> bytes:
    """The private key in PEM."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert isinstance(pem, bytes)
    return pem
