"""session.subscribing: what the application allows, and what is taken back while a client subscribes."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import orjson

from service.channels import Namespace
from service.identity.hooks import SubscribeAnswer
from service.identity.identity import Grant, Identity
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.session import FakeClient, World

NAMESPACES = {"asked": Namespace(subscribe_hook=True), "plain": Namespace(), "room": Namespace(chat=True)}


class _Tokens:
    """A connect token is the user's name; any token subscribes. All are issued now."""

    def connect(self, token: str) -> Identity:
        return Identity(token, issued_at=time.time())

    def subscription(self, token: str, user: str, channel: str) -> Grant:
        return Grant(issued_at=time.time())


class _Hooks:
    """An application that allows everything, as soon as `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def subscribe(self, client: str, identity: Identity, channel: str, data: bytes) -> SubscribeAnswer:
        self.asked += 1
        await self.go.wait()
        return SubscribeAnswer()


def _connected(hooks: _Hooks) -> tuple[World, FakeClient]:
    """A client of the user `ann`."""
    world = World()
    settings = world.settings.model_copy(update={"namespaces": NAMESPACES})
    world.context = world.context._replace(
        settings=settings, tokens=cast(Any, _Tokens()), hooks=cast(Any, hooks)
    )
    client = world.client(connected=False)
    client.send(b'{"id":1,"connect":{"token":"ann"}}')
    return world, client


def _subscribe(number: int, channel: str = "asked:a", token: str = "") -> bytes:
    fields = {"channel": channel, "token": token}
    return orjson.dumps({"id": number, "subscribe": fields})


@virtual_time
async def test_what_the_application_allows_is_as_good_as_a_token_made_now() -> None:
    """Also to a user whose former tokens are void; whether or not anything has to be read."""
    hooks = _Hooks()
    hooks.go.set()
    world, client = _connected(hooks)
    world.control.before["ann"] = time.time() - 60
    for number in (2, 4):  # the channel is not there yet, and it is
        client.send(_subscribe(number), b'{"id":%d,"unsubscribe":{"channel":"asked:a"}}' % (number + 1))
        await turns(20)
        assert "subscribe" in client.answers[number - 1]


@virtual_time
async def test_a_token_that_is_revoked_while_the_application_is_asked() -> None:
    """No subscription comes of it: whoever carried the revocation out has not met one."""
    hooks = _Hooks()
    world, client = _connected(hooks)
    other = world.client(connected=False)
    other.send(b'{"id":1,"connect":{"token":"bob"}}', _subscribe(2))
    hooks.go.set()
    await turns(20)  # the channel is there: nothing has to be read
    hooks.go.clear()
    client.send(_subscribe(2, token="token"))
    await turns()
    assert hooks.asked == 2
    world.control.before["ann"] = time.time() + 60
    hooks.go.set()
    await turns(20)
    assert client.answers[-1]["error"]["code"] == 103
    assert client.session.subscriptions == {}


@virtual_time
async def test_a_token_that_is_revoked_while_something_is_read() -> None:
    """The same."""
    world, client = _connected(_Hooks())
    world.feed.go.clear()
    client.send(_subscribe(2, "plain:a", "token"))
    await turns()
    world.control.before["ann"] = time.time() + 60
    world.feed.go.set()
    await turns(20)
    assert client.answers[-1]["error"]["code"] == 103
    assert client.session.subscriptions == {}


@virtual_time
async def test_a_user_who_is_banned_while_something_is_read() -> None:
    """Again."""
    world, client = _connected(_Hooks())
    world.feed.go.clear()
    client.send(_subscribe(2, "room:a"))
    await turns(20)
    world.bans.changed("room:a", "ann", 1 << 42)
    world.feed.go.set()
    await turns(20)
    assert client.answers[-1]["error"]["code"] == 103
    assert client.session.subscriptions == {}
