"""Tokens as an application makes them, and clients that connect with one."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt

from tests.support.ws_client import Client, Json, open_client

#: A shared secret that is long enough for every algorithm, and another one.
SECRET = "a secret of more than sixty-four bytes, so that PyJWT has nothing to say of it"
OTHER_SECRET = SECRET.replace("a secret", "another secret")

#: The section `tokens` of a node that takes tokens by `SECRET`, to the second.
TOKENS: dict[str, Any] = {"hmac_secrets": [SECRET], "leeway_seconds": 0}


def someone(name: str = "ann") -> str:
    """A user that no other test knows."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def token(
    user: str = "",
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A connect token; with the claim `channel` a subscription token."""
    named = {"sub": user} if user else {}
    return jwt.encode(named | claims, key, algorithm, headers=headers)


def allow(channels: str | list[str], *actions: str) -> list[Json]:
    """The claim `caps` with one capability."""
    names = [channels] if isinstance(channels, str) else channels
    return [{"channels": names, "allow": list(actions), "match": "wildcard"}]


def from_now(seconds: float) -> float:
    """An instant for exp, nbf, iat."""
    return time.time() + seconds


@asynccontextmanager
async def signed_in(
    url: str, user: str, *, request: Json | None = None, **claims: Any
) -> AsyncIterator[Client]:
    """A client with a connect token by `SECRET`.

    Args:
        request: further parameters of the connect command.
    """
    async with open_client(url, connect=False) as client:
        await client.connect(token=token(user, **claims), **(request or {}))
        yield client


async def refused_with(code: int, url: str, bad: str) -> None:
    """A connect with such a token ends with this code, and is told nothing else."""
    async with open_client(url, connect=False) as client:
        await client.send_raw(json.dumps({"id": 1, "connect": {"token": bad}}))
        assert (await client.closed())[0] == code
        assert client.messages == []


async def refused(url: str, bad: str) -> None:
    """A connect with such a token ends for good: the token is not valid."""
    await refused_with(3500, url, bad)
