"""The keys that verify tokens. Each knows the algorithms it is for, and is tried with no other.

That is what keeps a public key from being taken for a shared secret ("alg confusion"): whatever a token's
header asks for, an RSA key is only ever found among the keys of RS256, RS384 and RS512.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from service.errors import ConfigError
from service.sections import TokenSettings

#: What shared secrets sign.
HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")

#: What RSA keys sign.
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")

#: What keys of an elliptic curve sign, by the curve.
CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

#: What is verified by a public key, and so may be by one from a JWKS.
PUBLIC_ALGORITHMS = frozenset((*RSA_ALGORITHMS, *CURVE_ALGORITHMS.values(), "EdDSA"))

#: Bytes of the shortest shared secret: shorter ones can be guessed.
MIN_SECRET_BYTES = 16

#: Bits of the smallest RSA key, as RFC 7518 asks.
MIN_RSA_BITS = 2048

#: Bytes of the largest key file.
MAX_FILE_BYTES = 65_536

_ALGORITHMS = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in PUBLIC_ALGORITHMS or name in HMAC_ALGORITHMS
}

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class Key:
    """A key that verifies tokens.

    Args:
        material: bytes of a shared secret, or a public key.
        algorithms: those that are tried with it.
        kid: its name, where it has one.
    """

    __slots__ = ("_material", "algorithms", "kid")

    def __init__(
        self, material: bytes | PublicKey, algorithms: tuple[str, ...], kid: str | None = None
    ) -> None:
        self._material = material
        self.algorithms = algorithms
        self.kid = kid

    def __repr__(self) -> str:
        return f"Key(algorithms={self.algorithms}, kid={self.kid!r})"

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's; False for an algorithm that is not its own."""
        return algorithm in self.algorithms and _ALGORITHMS[algorithm].verify(
            message, self._material, signature
        )


def secret_key(secret: bytes) -> Key:
    """The key of a shared secret.

    Raises:
        ValueError: it is too short, or a public key by mistake; the text does not hold it.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"a secret of {len(secret)} bytes can be guessed; allowed: at least {MIN_SECRET_BYTES} bytes, "
            "such as `openssl rand -hex 32` makes"
        )
    try:
        return Key(HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret), HMAC_ALGORITHMS)
    except InvalidKeyError:
        raise ValueError(
            "this is a public key or certificate, which others know; allowed: a random secret "
            "(public keys belong into tokens.public_key_files)"
        ) from None


def public_key(material: object, kid: str | None = None, only: str | None = None) -> Key:
    """The key of what cryptography has loaded.

    Args:
        only: the single algorithm that it is meant for; None: all of its kind.

    Raises:
        ValueError: it is of no kind that signs tokens, too small, or not meant for what it can do.
    """
    algorithms: tuple[str, ...]
    if isinstance(material, RSAPublicKey):
        if material.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {material.key_size} bits; allowed: at least {MIN_RSA_BITS} bits")
        algorithms = RSA_ALGORITHMS
    elif isinstance(material, EllipticCurvePublicKey):
        if material.curve.name not in CURVE_ALGORITHMS:
            allowed = ", ".join(CURVE_ALGORITHMS)
            raise ValueError(f"a key of the curve {material.curve.name}; allowed: {allowed}, Ed25519")
        algorithms = (CURVE_ALGORITHMS[material.curve.name],)
    elif isinstance(material, Ed25519PublicKey):
        algorithms = ("EdDSA",)
    else:
        raise ValueError(f"a {type(material).__name__}; allowed: public keys of RSA, EC or Ed25519")
    if only is not None:
        if only not in algorithms:
            raise ValueError(f"a key meant for {only[:20]!r}; allowed for its kind: {', '.join(algorithms)}")
        algorithms = (only,)
    return Key(material, algorithms, kid)


def by_algorithm(keys: Iterable[Key]) -> Mapping[str, tuple[Key, ...]]:
    """The keys to be tried for each algorithm."""
    found: defaultdict[str, tuple[Key, ...]] = defaultdict(tuple)
    for key in keys:
        for algorithm in key.algorithms:
            found[algorithm] += (key,)
    return dict(found)


def secrets_of(settings: TokenSettings) -> list[tuple[str, bytes]]:
    """All shared secrets, each with the name of its setting.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = [
        (f"tokens.hmac_secrets[{i}]", secret.get_secret_value().encode())
        for i, secret in enumerate(settings.hmac_secrets)
    ]
    for path in settings.hmac_secret_files:
        name = f"tokens.hmac_secret_files: {path}"
        # An editor leaves a line break at the end.
        found.append((name, read(name, path).rstrip(b"\r\n")))
    return found


def load(settings: TokenSettings) -> list[Key]:
    """All keys of the settings.

    Raises:
        ConfigError: a file cannot be read or holds no suitable key, or a secret is too short.
    """
    found = []
    for name, secret in secrets_of(settings):
        try:
            found.append(secret_key(secret))
        except ValueError as exc:
            raise ConfigError(f"{name}: {exc}") from None
    for path in settings.public_key_files:
        name = f"tokens.public_key_files: {path}"
        pem = read(name, path)
        if b"PRIVATE KEY" in pem:
            raise ConfigError(f"{name}: a private key, which a node must not have; allowed: the public one")
        try:
            material = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            # Their texts tell of OpenSSL's insides.
            raise ConfigError(f"{name}: no public key; allowed: PEM (BEGIN PUBLIC KEY)") from None
        try:
            found.append(public_key(material))
        except ValueError as exc:
            raise ConfigError(f"{name}: {exc}") from None
    return found


def read(name: str, path: Path) -> bytes:
    """The bytes of a key's file.

    Args:
        name: of the setting, for the error.

    Raises:
        ConfigError: it cannot be read, or is too large for a key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{name}: cannot be read: {exc.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}: more than {MAX_FILE_BYTES} bytes; allowed: one key")
    return data
