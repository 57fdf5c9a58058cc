"""api.body: what a request brings is bounded, and a client may go away before all of it has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import httpx
import orjson
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import Message

from service.api.server import MAX_BYTES, api_routes
from service.config import Settings
from service.metrics import Metrics
from service.sections import ApiSettings

KEY = "a key of the application, long enough"


class _Control:
    """Keeps what all nodes are told."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, command: Any) -> None:
        self.sent.append(command)


class _Context(NamedTuple):
    settings: Settings
    control: _Control
    metrics: Metrics


def app(control: _Control) -> Starlette:
    """The server API with nothing behind it but that."""
    settings = Settings(api=ApiSettings(keys=(SecretStr(KEY),)))
    return Starlette(routes=api_routes(cast(Any, _Context(settings, control, Metrics()))))


async def post(content: bytes | AsyncIterator[bytes]) -> tuple[int, Any]:
    """The status and what `disconnect` with this body is answered."""
    transport = httpx.ASGITransport(app(_Control()))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        response = await client.post("/api/disconnect", content=content, headers={"X-API-Key": KEY})
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        (b"", 200, "user is required"),
        (b"{", 400, "the request is not JSON"),
        (b'{"user":"\xff"}', 400, "the request is not JSON"),
        (b"[]", 400, "the request is not a JSON object"),
        (b" " * (MAX_BYTES + 1), 413, f"a request has at most {MAX_BYTES} bytes"),
    ],
)
async def test_bodies_that_are_refused(content: bytes, status: int, why: str) -> None:
    """107 and why; nothing at all is an object of nothing."""
    assert await post(content) == (status, {"error": {"code": 107, "message": why}})


async def test_a_body_in_parts() -> None:
    """All of it counts."""

    async def parts() -> AsyncIterator[bytes]:
        yield b'{"user":'
        yield b'"ann"}'

    assert await post(parts()) == (200, {"result": {}})


async def test_a_client_that_goes_away() -> None:
    """Nothing is carried out, and nothing is raised that would be logged as a fault of ours."""
    control = _Control()
    incoming: list[Message] = [
        {"type": "http.request", "body": orjson.dumps({"user": "ann"}), "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        """Nobody is there."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/disconnect",
        "query_string": b"",
        "headers": [(b"x-api-key", KEY.encode())],
    }
    await app(control)(scope, receive, send)
    assert control.sent == []
