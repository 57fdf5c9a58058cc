"""session.orders: commands to all nodes, carried out on the sessions of this one."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest

from service.errors import Disconnect, Unsubscribed
from service.identity.identity import Grant, Identity
from service.session.bans import Bans
from service.session.orders import Orders
from service.session.users import Session, Users
from service.tasks import Tasks
from tests.unit.fakes.clock import virtual_time
from tests.unit.fakes.session import FakeBans


class _Detail(NamedTuple):
    grant: Grant | None = None


class _Session:
    """Keeps what is done to it."""

    def __init__(self, name: str, user: str, issued_at: float | None = None) -> None:
        self.id = name
        self.identity = Identity(user, issued_at=issued_at)
        self.details: dict[str, _Detail] | None = None
        self.closed: list[Disconnect] = []
        self.taken: list[tuple[str, Unsubscribed]] = []

    def close(self, disconnect: Disconnect) -> None:
        self.closed.append(disconnect)

    def take_away(self, channel: str, why: Unsubscribed) -> None:
        self.taken.append((channel, why))


class _Outside:
    """Keeps what is to be done to sessions and channels."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def subscribe(self, session: Session, name: str, info: bytes | None, data: bytes | None) -> None:
        self.done.append(("subscribe", session.id, name, info, data))

    def stop(self, session: Session, name: str) -> None:
        self.done.append(("stop", session.id, name))

    def expire(self, session: Session, at: float) -> None:
        self.done.append(("expire", session.id, at))

    def report(self, to: str, pattern: str | None) -> None:
        self.done.append(("report", to, pattern))

    def forget(self, name: str) -> None:
        self.done.append(("forget", name))


class _World:
    def __init__(self, *sessions: _Session) -> None:
        users = Users()
        for session in sessions:
            users.add(session)
        self.bans = Bans(FakeBans(), Tasks())
        self.outside = _Outside()
        self.orders = Orders(users, self.bans, self.outside)

    def command(self, command: str, **fields: Any) -> str:
        return self.orders.carry_out({"command": command, **fields})


def test_disconnect() -> None:
    """All sessions of a user, or one of them; with the application's own code, if it is whole."""
    phone, laptop, other = _Session("phone", "ann"), _Session("laptop", "ann"), _Session("x", "bob")
    world = _World(phone, laptop, other)
    assert world.command("disconnect", user="ann", client="phone", code=4001, reason="go") == "disconnect"
    assert (phone.closed, laptop.closed) == ([Disconnect(4001, "go")], [])
    world.command("disconnect", user="ann", code=4001)
    assert [d.code for d in laptop.closed] == [3503]
    assert other.closed == []


def test_disconnect_all_but_some() -> None:
    """Those that are to be spared are."""
    phone, laptop = _Session("phone", "ann"), _Session("laptop", "ann")
    _World(phone, laptop).command("disconnect", user="ann", spared=["phone"])
    assert (len(phone.closed), len(laptop.closed)) == (0, 1)


def test_unsubscribe_one_session() -> None:
    """The one that is meant."""
    phone, laptop = _Session("phone", "ann"), _Session("laptop", "ann")
    _World(phone, laptop).command("unsubscribe", user="ann", channel="a", client="phone")
    assert (len(phone.taken), len(laptop.taken)) == (1, 0)


def test_subscribe() -> None:
    """All sessions, or one; an unsubscribe stops what is under way."""
    world = _World(_Session("phone", "ann"), _Session("laptop", "ann"))
    assert world.command("subscribe", user="ann", channel="a", client="phone", info=[1]) == "subscribe"
    assert world.outside.done == [("subscribe", "phone", "a", b"[1]", None)]
    world.command("subscribe", user="ann", channel="a", data=None)
    assert ("subscribe", "laptop", "a", None, b"null") in world.outside.done
    world.command("unsubscribe", user="ann", channel="a", client="laptop")
    assert world.outside.done[-1] == ("stop", "laptop", "a")


def test_refresh() -> None:
    """Expired now, or at an instant; a command that says neither does nothing."""
    phone, laptop = _Session("phone", "ann"), _Session("laptop", "ann")
    world = _World(phone, laptop)
    assert world.command("refresh", user="ann", expired=True, client="phone") == "refresh"
    assert ([d.code for d in phone.closed], laptop.closed) == ([3005], [])
    world.command("refresh", user="ann", client="laptop")
    assert world.outside.done == []
    world.command("refresh", user="ann", expire_at=17, client="laptop")
    assert world.outside.done == [("expire", "laptop", 17)]


def test_forget() -> None:
    """What a channel's stream held."""
    world = _World()
    assert world.command("forget", channel="a") == "forget"
    assert world.outside.done == [("forget", "a")]


def test_unsubscribe() -> None:
    """From one channel."""
    session = _Session("phone", "ann")
    assert _World(session).command("unsubscribe", user="ann", channel="a") == "unsubscribe"
    assert session.taken == [("a", Unsubscribed(2000, "unsubscribed by the server"))]


def test_report() -> None:
    """Of the node, with channels where there is a pattern."""
    world = _World()
    assert world.command("report", to="x") == world.command("report", to="y", pattern="*") == "report"
    assert world.outside.done == [("report", "x", None), ("report", "y", "*")]


@pytest.mark.parametrize(("issued_at", "void"), [(None, True), (1.0, True), (1.001, False)])
def test_revoke(issued_at: float | None, *, void: bool) -> None:
    """What was issued up to then, sessions and subscriptions."""
    session = _Session("phone", "ann", issued_at)
    lasting = _Session("laptop", "ann", 2.0)
    lasting.details = {
        "granted": _Detail(Grant(issued_at=issued_at)),
        "new": _Detail(Grant(issued_at=2.0)),
        "no token": _Detail(),
    }
    assert _World(session, lasting).command("revoke", user="ann", before_ms=1000) == "revoke"
    assert [d.code for d in session.closed] == [3500] * void
    assert lasting.closed == []
    assert [channel for channel, _ in lasting.taken] == ["granted"] * void


@virtual_time
async def test_a_ban() -> None:
    """Whoever is banned is taken out, and stays out; one that is lifted, or past, takes out nobody."""
    session = _Session("phone", "ann")
    world = _World(session)
    await world.bans.read("chat:a")
    for until in (0, 1):
        assert world.command("ban", user="ann", channel="chat:a", until_ms=until) == "ban"
    assert session.taken == []
    until = int(time.time() * 1000) + 60_000
    world.command("ban", user="ann", channel="chat:a", until_ms=until)
    assert [channel for channel, _ in session.taken] == ["chat:a"]
    assert world.bans.left("chat:a", "ann") > 0


@virtual_time
async def test_what_may_be_outdated_is_forgotten() -> None:
    """Commands may have been missed: bans are read again."""
    world = _World()
    await world.bans.read("chat:a")
    world.orders.missed()
    assert not world.bans.known("chat:a")


@pytest.mark.parametrize(
    "command", [{}, {"command": "fly"}, {"command": "revoke", "user": "ann"}, {"command": "ban", "user": 5}]
)
def test_what_is_not_known_is_passed_over(command: dict[str, Any]) -> None:
    """A later version may have sent it."""
    session = _Session("phone", "ann")
    assert _World(session).orders.carry_out(command) == "unknown"
    assert (session.closed, session.taken) == ([], [])
