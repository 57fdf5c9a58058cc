"""session.connecting: who a client is, and what changes while that takes a while."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from service.errors import Unavailable
from service.identity.identity import Identity, ServerSubscription
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.session import FakeClient, World, publish_command


class _Tokens:
    """A token is the user's name; each is subscribed to a channel."""

    def connect(self, token: str) -> Identity:
        return Identity(token, subscriptions={"log:a": ServerSubscription()})


def _connections(world: World, user: str) -> int:
    return len(world.presence.there.get(world.context.keys.connections(user), {}))


def _world(**limits: Any) -> World:
    world = World(**limits)
    world.context = world.context._replace(tokens=cast(Any, _Tokens()))
    return world


def _connecting(world: World, *behind: bytes) -> FakeClient:
    """A client of the user `ann` whose `connect` takes until `world.feed.go`."""
    world.feed.go.clear()
    client = world.client(connected=False)
    client.send(b'{"id":1,"connect":{"token":"ann"}}', *behind)
    return client


@virtual_time
async def test_a_connection_that_was_refused_counts_as_nobodys() -> None:
    """Neither while its client goes on as somebody else, nor when it has gone."""
    world = _world(connections_per_user=2)
    client: FakeClient = world.client(connected=False)
    world.feed.failure = Unavailable("no")
    client.send(b'{"id":1,"connect":{"token":"ann"}}')
    await turns(10)
    assert client.answers[0]["error"]["code"] == 100
    world.feed.failure = None
    client.send(b'{"id":2,"connect":{"token":"bob"}}')
    await turns(10)
    assert client.answers[1]["connect"]["subs"].keys() == {"log:a"}
    assert [_connections(world, user) for user in ("ann", "bob")] == [0, 1]
    client.session.closed()
    assert [_connections(world, user) for user in ("ann", "bob")] == [0, 0]


@virtual_time
async def test_a_connection_that_is_lost_before_it_is_counted() -> None:
    """Nobody would count it out again."""
    world = _world(connections_per_user=2)
    client = _connecting(world)
    client.session.closed()
    await turns(10)
    assert _connections(world, "ann") == 0


@virtual_time
async def test_what_is_revoked_while_a_client_connects() -> None:
    """The session ends: whoever carried it out did not meet it among those of the user."""
    world = _world()
    client = _connecting(world)
    await turns()
    world.control.gone.add("ann")
    world.feed.go.set()
    await turns(20)
    assert client.close_code == 3500
    assert client.session.subscriptions == {}


@virtual_time
async def test_what_waits_behind_connect_is_in_lanes_of_its_own() -> None:
    """One channel's commands do not wait for another's."""
    world = _world()
    world.publisher.gates[b"1"] = asyncio.Event()
    client = _connecting(world, publish_command(2, "log:b", b"1"), publish_command(3, "log:c", b"2"))
    await turns()
    assert client.ids == []
    world.feed.go.set()
    await turns(20)
    assert client.ids == [1, 3]
    world.publisher.gates[b"1"].set()
    await turns()
    assert client.ids == [1, 3, 2]
