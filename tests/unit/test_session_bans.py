"""session.bans: read once for all who ask, again only where it must be; what is outdated is never told."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import ReplyError, Unavailable
from service.session.bans import Bans
from service.tasks import Tasks
from tests.unit.fakes.clock import turns, virtual_time

#: Ms since the epoch, far from now.
LATER = 1 << 42


class Source:
    """Bans as they are written down; `go` lets the answers through, as they were when they were asked for."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, int]] = {}
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    @property
    def now(self) -> int:
        return 1 << 41

    async def bans(self, channel: str) -> dict[str, int]:
        self.asked.append(channel)
        found = dict(self.rooms.get(channel, {}))
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return found


def bans_of(source: Source) -> Bans:
    return Bans(source, Tasks())


def refuses(bans: Bans, channel: str, user: str) -> bool:
    try:
        bans.check(channel, user)
    except ReplyError:
        return True
    return False


@virtual_time
async def test_one_read_for_all_who_ask() -> None:
    """And none once it is known."""
    source = Source()
    source.rooms["chat:a"] = {"ann": LATER}
    bans = bans_of(source)
    asking = [asyncio.create_task(bans.read("chat:a")) for _ in range(5)]
    await turns()
    source.go.set()
    await asyncio.gather(*asking)
    await bans.read("chat:a")
    assert source.asked == ["chat:a"]
    assert refuses(bans, "chat:a", "ann")
    assert not refuses(bans, "chat:a", "bob")


@virtual_time
async def test_a_ban_while_the_room_is_read() -> None:
    """What was read is outdated, and is read again."""
    source = Source()
    bans = bans_of(source)
    asking = asyncio.create_task(bans.read("chat:a"))
    await turns()
    source.rooms["chat:a"] = {"ann": LATER}
    bans.changed("chat:a", "ann", LATER)
    source.go.set()
    await asking
    assert source.asked == ["chat:a", "chat:a"]
    assert refuses(bans, "chat:a", "ann")


@virtual_time
async def test_a_ban_in_another_room() -> None:
    """It says nothing of the one that is read."""
    source = Source()
    bans = bans_of(source)
    asking = asyncio.create_task(bans.read("chat:a"))
    await turns()
    bans.changed("chat:b", "ann", LATER)
    source.go.set()
    await asking
    assert source.asked == ["chat:a"]


@virtual_time
async def test_whoever_has_read_can_tell() -> None:
    """Also where all was forgotten between the answer and whoever waits for it."""
    source = Source()
    source.rooms["chat:a"] = {"ann": LATER}
    bans = bans_of(source)
    asking = asyncio.create_task(bans.read("chat:a"))
    await turns()
    source.go.set()
    while not bans.known("chat:a"):
        await turns(1)
    bans.forget()
    assert not asking.done()
    await asking
    assert source.asked == ["chat:a", "chat:a"]
    assert refuses(bans, "chat:a", "ann")


@virtual_time
async def test_a_failed_read() -> None:
    """All who ask are told; the next one reads."""
    source = Source()
    source.failure = Unavailable("no")
    source.go.set()
    bans = bans_of(source)
    outcomes = await asyncio.gather(bans.read("chat:a"), bans.read("chat:a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    source.failure = None
    await bans.read("chat:a")
    assert bans.known("chat:a")


@virtual_time
async def test_whoever_goes_away_leaves_the_answer_to_the_others() -> None:
    """The read goes on."""
    source = Source()
    bans = bans_of(source)
    going, staying = (asyncio.create_task(bans.read("chat:a")) for _ in range(2))
    await turns()
    going.cancel()
    source.go.set()
    await staying
    assert source.asked == ["chat:a"]


@virtual_time
async def test_bans_change() -> None:
    """Lifted, set anew, or past: as far as is known."""
    source = Source()
    source.rooms["chat:a"] = {"ann": LATER, "past": 1}
    source.go.set()
    bans = bans_of(source)
    await bans.read("chat:a")
    assert not refuses(bans, "chat:a", "past")
    bans.changed("chat:a", "ann", 0)
    assert not refuses(bans, "chat:a", "ann")
    bans.changed("chat:a", "bob", LATER)
    assert refuses(bans, "chat:a", "bob")


@virtual_time
async def test_rooms_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one read first makes room."""
    monkeypatch.setattr("service.session.bans.MAX_ROOMS", 2)
    source = Source()
    source.go.set()
    bans = bans_of(source)
    for channel in ("chat:a", "chat:b", "chat:c"):
        await bans.read(channel)
    assert [bans.known(channel) for channel in ("chat:a", "chat:b", "chat:c")] == [False, True, True]
