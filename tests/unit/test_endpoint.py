"""transports.endpoint: which pages may connect, and which subprotocol they are told."""

from __future__ import annotations

from typing import Any, cast

import pytest
from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket

from service.config import Settings
from service.sections import ServerSettings
from service.transports.endpoint import spoken, websocket_endpoint
from service.transports.handshake import DETACH
from service.transports.origins import origin_allowed
from service.transports.protobuf_websocket import ProtobufConnection
from service.transports.websocket import WebSocketConnection
from tests.unit.fakes.session import World


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "may"),
    [
        (None, "example.org", (), True),  # no browser
        (None, None, ("https://example.org",), True),
        ("https://example.org", "example.org", (), True),
        ("http://example.org:8000", "example.org:8000", (), True),
        ("http://example.org:8000", "example.org", (), False),
        ("https://evil.org", "example.org", (), False),
        ("https://example.org.evil.org", "example.org", (), False),
        ("https://evil.org/example.org", "example.org", (), False),
        ("https://evil.org?example.org", "example.org", (), False),
        ("https://example.org@evil.org", "example.org", (), False),
        ("null", "example.org", (), False),
        ("null", None, (), False),
        ("", None, (), False),
        ("https://[evil", "example.org", (), False),
        ("https://a.org", "example.org", ("https://a.org", "https://b.org"), True),
        ("https://b.org", "example.org", ("https://a.org", "https://b.org"), True),
        ("https://example.org", "example.org", ("https://a.org",), False),
        ("http://a.org", "example.org", ("https://a.org",), False),
        ("https://a.org.evil", "example.org", ("https://a.org",), False),
        ("https://evil.org", "example.org", ("*",), True),
        ("null", "example.org", ("*",), True),
    ],
)
def test_origin_allowed(origin: str | None, host: str | None, allowed: tuple[str, ...], *, may: bool) -> None:
    """No page of another site may use a visitor's browser, unless configured."""
    assert origin_allowed(origin, host, allowed) is may


class _Handshake:
    """Calls the endpoint as Starlette does."""

    def __init__(self, headers: dict[str, str], subprotocols: list[str], query: str = "") -> None:
        self.sent: list[Any] = []
        self.detached: list[str | None] = []
        self.scope = {
            "type": "websocket",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": subprotocols,
            "query_string": query.encode(),
            "extensions": {DETACH: self._detach, "websocket.http.response": {}},
        }

    def _detach(self, factory: object, subprotocol: str | None) -> bool:
        self.detached.append(subprotocol)
        return True

    async def run(self, world: World) -> None:
        async def send(message: Any) -> None:
            self.sent.append(message)

        websocket = WebSocket(self.scope, cast(Any, None), send)
        await websocket_endpoint(world.context)(websocket)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], None),
        ([""], None),
        (["centrifuge-json"], "centrifuge-json"),
        (["other", "centrifuge-json"], "centrifuge-json"),
        (["centrifuge-protobuf"], "centrifuge-protobuf"),
        (["other"], None),
    ],
)
async def test_the_subprotocol(asked: list[str], told: str | None) -> None:
    """What we speak is named where it was asked for, and nothing else ever is."""
    handshake = _Handshake({"host": "example.org"}, asked)
    await handshake.run(World())
    assert handshake.detached == [told]
    assert handshake.sent == []


@pytest.mark.parametrize(
    ("asked", "query", "kind", "told"),
    [
        ([], "", WebSocketConnection, None),
        (["centrifuge-json"], "format=json", WebSocketConnection, "centrifuge-json"),
        (["centrifuge-protobuf"], "", ProtobufConnection, "centrifuge-protobuf"),
        (["centrifuge-protobuf", "centrifuge-json"], "", ProtobufConnection, "centrifuge-protobuf"),
        (["centrifuge-json", "centrifuge-protobuf"], "", WebSocketConnection, "centrifuge-json"),
        ([], "format=protobuf", ProtobufConnection, None),
        ([], "cf_protocol=protobuf", ProtobufConnection, None),
        (["centrifuge-protobuf"], "cf_protocol=protobuf", ProtobufConnection, "centrifuge-protobuf"),
        (["centrifuge-json"], "format=protobuf", ProtobufConnection, None),
        ([], "format=xml", WebSocketConnection, None),
    ],
)
def test_the_format(asked: list[str], query: str, kind: type, told: str | None) -> None:
    """The address decides, then the first subprotocol that is known; else it is JSON."""
    assert spoken(asked, QueryParams(query)) == (kind, told)


async def test_another_sites_page_is_refused() -> None:
    """403 before there is a connection; it is counted."""
    world = World()
    handshake = _Handshake({"host": "example.org", "origin": "https://evil.org"}, [])
    await handshake.run(world)
    assert handshake.detached == []
    assert handshake.sent[0]["status"] == 403
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_admission_rejected_total", {"reason": "origin"}) == 1


async def test_configured_origins_count() -> None:
    """The endpoint asks the settings."""
    world = World()
    server = ServerSettings(allowed_origins=("https://friend.org",))
    settings = Settings(server=server)
    world.context = world.context._replace(settings=settings)
    friend = _Handshake({"host": "example.org", "origin": "https://friend.org"}, [])
    await friend.run(world)
    assert friend.detached == [None]
    own = _Handshake({"host": "example.org", "origin": "https://example.org"}, [])
    await own.run(world)
    assert own.detached == []
