"""Public keys from a JWKS URL: fetched now and then, and when a token names a key that is not there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from service.errors import internal
from service.identity import http
from service.identity.keys import Key, by_algorithm, public_key
from service.metrics import Metrics
from service.streams.backoff import Backoff
from service.streams.quiet import OncePer
from service.tasks import Tasks

logger = logging.getLogger(__name__)

#: Bytes of the largest answer.
MAX_BYTES = 262_144

#: Keys of one answer that are used; each may be tried for a token, so there is a bound.
MAX_KEYS = 64

#: Seconds for one fetch.
TIMEOUT_SECONDS = 5.0

#: Seconds from one fetch to the next that a token may cause: tokens can be forged by the thousand.
REFRESH_SECONDS = 10.0

_LOADERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}

#: The members of a JWK that make up a public key. Others are not read: with `d` it would be a private one.
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")


class Jwks:
    """The keys of one URL, kept in memory. The old ones stay until new ones are there.

    Args:
        url: http or https; may hold a password.
        seconds: from one fetch to the next.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the URL cannot be read.
    """

    def __init__(
        self, url: str, seconds: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = http.checked("tokens.jwks_url", url)
        self._seconds = seconds
        self._metrics = metrics
        self._clock = clock
        self._client = http.client(connections=1)
        self._keys: Mapping[str, Sequence[Key]] = {}
        self._tasks = Tasks()
        self._fetch: asyncio.Task[bool] | None = None
        self._began = float("-inf")
        self._log_limit = OncePer(60.0)

    def find(self, algorithm: str, kid: str | None) -> list[Key]:
        """The keys for an algorithm that may have signed a token which names `kid`.

        A key without a name may have signed anything; a token that names none may be by any key.
        """
        return [
            key for key in self._keys.get(algorithm, ()) if kid is None or key.kid is None or key.kid == kid
        ]

    async def run(self) -> None:
        """Fetch now, and again and again; never returns."""
        backoff = Backoff()
        while True:
            if await self._joined_fetch():
                backoff.reset()
                await asyncio.sleep(self._seconds)
            else:
                await asyncio.sleep(backoff.next())

    async def refresh(self) -> None:
        """Fetch for a key that is not there.

        Raises:
            ReplyError: 100, nobody can say whether the key is good: the fetch failed, or the last one was
                moments ago, and the key may be newer.
        """
        if self._fetch is None and self._clock() - self._began < REFRESH_SECONDS:
            raise internal()
        if not await self._joined_fetch():
            raise internal()

    async def _joined_fetch(self) -> bool:
        """The outcome of the fetch under way, or of a new one."""
        if self._fetch is None:
            self._began = self._clock()
            self._fetch = self._tasks.start(self._fetch_once())
        # Whoever stops waiting leaves it to the others.
        return await asyncio.shield(self._fetch)

    async def _fetch_once(self) -> bool:
        try:
            request = self._client.build_request("GET", self._url)
            started = time.perf_counter()
            body = await http.ask(self._client, request, seconds=TIMEOUT_SECONDS, limit=MAX_BYTES)
            self._metrics.hook_seconds.labels("jwks").observe(time.perf_counter() - started)
            self._keys = by_algorithm(parse(body))
            return True
        except http.NoAnswer as exc:
            self._failed(exc.reason, exc.text)
        except ValueError as exc:
            self._failed("answer", str(exc))
        finally:
            self._fetch = None
        return False

    def _failed(self, reason: str, text: str) -> None:
        self._metrics.hook_failures.labels("jwks", reason).inc()
        if self._log_limit.allows(reason):
            logger.warning(
                "no keys from %s, to be tried again: %s; the old ones stay", http.place(self._url), text
            )

    async def aclose(self) -> None:
        """Give up a fetch, and close the connection."""
        await self._tasks.aclose()
        await self._client.aclose()


def parse(body: bytes) -> list[Key]:
    """The usable keys of a JWKS: public ones that are meant for signatures.

    Raises:
        ValueError: it is no JWKS, or has not one usable key.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('not an object with a list "keys"')
    found = []
    for entry in entries[:MAX_KEYS]:
        try:
            found.append(_key(entry))
        except ValueError as exc:  # one that we cannot use must not cost us the others
            logger.debug("a key of the JWKS is passed over: %s", exc)
    if not found:
        raise ValueError("not one usable key; allowed: public keys of RSA, EC or Ed25519 for signatures")
    return found


def _key(entry: object) -> Key:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    kind, kid, only = entry.get("kty"), entry.get("kid"), entry.get("alg")
    # Not among them: "oct". A secret that a URL hands out is none.
    loader = _LOADERS.get(kind) if isinstance(kind, str) else None
    if loader is None:
        raise ValueError("kty is none of RSA, EC, OKP")
    if not isinstance(kid, str | None) or not isinstance(only, str | None):
        raise ValueError("kid and alg must be strings")
    if entry.get("use", "sig") != "sig":
        raise ValueError("use is not sig")
    try:
        material = loader({name: entry[name] for name in _PUBLIC_MEMBERS if name in entry})
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError) as exc:
        raise ValueError(f"no key: {type(exc).__name__}") from None
    return public_key(material, kid, only)
