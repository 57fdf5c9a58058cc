"""`POST /demo/token`: any name becomes a user, nobody else's page may ask, nothing else is accepted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from service.api.demo import MAX_BYTES, demo_token_route
from service.config import Settings
from service.identity.identity import Identity
from service.identity.tokens import TokenVerifier
from service.metrics import Metrics
from service.transports.origins import origin_allowed
from tests.unit.fakes.keypairs import SECRET


def settings(**tokens: Any) -> Settings:
    """Those of a demo."""
    return Settings.model_validate(
        {"tokens": {"hmac_secrets": [SECRET, "another secret, for later"], **tokens}}
    )


async def post(
    body: Any, *, given: Settings | None = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    """An answer of the route; `body` is JSON unless it is bytes."""
    app = Starlette(routes=[demo_token_route(given or settings(), origin_allowed)])
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo") as client:
        return await client.post("/demo/token", headers=headers, **content)


def bearer(response: httpx.Response, given: Settings | None = None) -> Identity:
    """Whom a node with these settings takes the bearer of the token for."""
    assert response.status_code == 200, response.text
    identity = TokenVerifier((given or settings()).tokens, Metrics()).connect(response.json()["token"])
    assert identity.user == response.json()["user"]
    return identity


async def test_a_visitor() -> None:
    """The user is a slug of the name, others see the name, and it is good for an hour."""
    identity = bearer(await post({"name": "  Ada   Lovelace "}))
    assert identity.user == "ada-lovelace"
    assert identity.info == b'{"name":"Ada Lovelace"}'
    assert identity.capabilities == ()
    assert identity.expires_at is not None
    assert identity.issued_at is not None
    assert identity.expires_at - identity.issued_at == 3600


async def test_a_moderator() -> None:
    """One may moderate in chat, and nothing else."""
    identity = bearer(await post({"name": "Ada", "moderator": True}))
    assert identity.has("chat:lobby", "moderate")
    assert not identity.has("quotes:AAPL", "moderate")
    assert not identity.has("chat:lobby", "publish")


async def test_audience_and_issuer() -> None:
    """The token is for this node, where that is looked at."""
    given = settings(audience="chat", issuer="demo")
    assert bearer(await post({"name": "Ada"}, given=given), given).user == "ada"


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("<img src=x onerror=a()>", "img-src-x-onerror-a"),
        ("Straße 7", "strasse-7"),
        ("李 明", "李-明"),
        ("x_y", "x-y"),
        ("A" * 24, "a" * 24),
    ],
)
async def test_slugs(name: str, user: str) -> None:
    """Letters and digits of any script stay; nothing else does."""
    assert bearer(await post({"name": name})).user == user


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": 5},
        {"name": ""},
        {"name": " \t"},
        {"name": "🎉"},
        {"name": "a" * 25},
        {"name": "a\x00b"},
        {"name": "a\u202eb"},
        {"name": "ada", "moderator": "yes"},
        [],
        b"",
        b"{",
        b'{"name":"\xff"}',
    ],
)
async def test_what_is_refused(body: Any) -> None:
    """Anything that is no name is refused with a reason."""
    response = await post(body)
    assert response.status_code == 400
    assert response.json()["error"]


async def test_large_bodies() -> None:
    """Reading ends at the bound."""
    response = await post(b" " * (MAX_BYTES + 1))
    assert response.status_code == 413
    assert response.json() == {"error": f"a request has at most {MAX_BYTES} bytes"}


@pytest.mark.parametrize(
    ("origin", "status"), [("http://demo", 200), ("http://evil", 403), ("null", 403), ("http://[", 403)]
)
async def test_origins(origin: str, status: int) -> None:
    """Only the page itself may ask, as for a WebSocket."""
    response = await post({"name": "ada"}, headers={"Origin": origin})
    assert response.status_code == status
    assert "token" not in response.json() or status == 200


async def test_without_a_secret() -> None:
    """A node that has none says so."""
    response = await post({"name": "ada"}, given=settings(hmac_secrets=[]))
    assert response.status_code == 501
    assert "tokens.hmac_secrets" in response.json()["error"]
