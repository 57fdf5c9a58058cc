"""session.connecting: a client that is refused may try again, as somebody else."""

from __future__ import annotations

from typing import Any, cast

from service.errors import Unavailable
from service.identity.identity import Identity, ServerSubscription
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.session import FakeClient, World


class _Tokens:
    """A token is the user's name; each is subscribed to a channel."""

    def connect(self, token: str) -> Identity:
        return Identity(token, subscriptions={"log:a": ServerSubscription()})


def _connections(world: World, user: str) -> int:
    return len(world.presence.there.get(world.context.keys.connections(user), {}))


@virtual_time
async def test_a_connection_that_was_refused_counts_as_nobodys() -> None:
    """Neither while its client goes on as somebody else, nor when it has gone."""
    world = World(connections_per_user=2)
    world.context = world.context._replace(tokens=cast(Any, _Tokens()))
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
