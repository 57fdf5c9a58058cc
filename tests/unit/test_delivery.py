"""hub.delivery: what each mode does with a batch where a socket is full, and order in a broadcast."""

from __future__ import annotations

import pytest

from service.channels import Mode
from service.hub import delivery
from service.hub.delivery import BLOCKED, BatchBroadcast
from service.hub.flusher import STRIDE, Flusher
from tests.unit.fakes import LINES, Clock, FakeSocket, publication


def _broadcast(
    socks: list[FakeSocket], *numbers: int, mode: Mode = "log"
) -> tuple[BatchBroadcast, list[int]]:
    publications = [publication(n) for n in numbers]
    conflated: list[int] = []
    chunk = LINES.publications("a", publications)
    outboxes = [sock.outbox for sock in socks]
    return BatchBroadcast("a", mode, outboxes, publications, chunk, conflated.append), conflated


async def test_log_holds_everything() -> None:
    """Behind a full socket a batch waits whole."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    publications = [publication(1), publication(2)]
    assert BLOCKED["log"](sock.outbox, "a", publications, LINES.publications("a", publications)) == 0
    sock.open()
    assert sock.numbers("a") == [1, 2]


async def test_latest_keeps_the_newest_only() -> None:
    """Of a batch, and of what waited already, one is left; the others are counted."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    for numbers, conflated in [([1, 2, 3], 2), ([4], 1), ([5, 6], 2)]:
        publications = [publication(n) for n in numbers]
        chunk = LINES.publications("a", publications)
        assert BLOCKED["latest"](sock.outbox, "a", publications, chunk) == conflated
    sock.open()
    assert sock.numbers("a") == [6]


async def test_a_broadcast_writes_to_each_socket() -> None:
    """The same bytes, without a stop in the outbox."""
    socks = [FakeSocket(Flusher(10**9)) for _ in range(3)]
    broadcast, _ = _broadcast(socks, 1)
    assert broadcast.write(ends=float("inf"))
    assert [sock.numbers("a") for sock in socks] == [[1]] * 3
    assert socks[0].writes[0] is socks[1].writes[0]


@pytest.mark.parametrize(("mode", "after"), [("log", [1, 2]), ("latest", [2])])
async def test_a_broadcast_leaves_full_sockets_to_the_mode(mode: Mode, after: list[int]) -> None:
    """Those who read get it now, those who do not when they read again."""
    flusher = Flusher(10**9)
    reading, stuck = FakeSocket(flusher), FakeSocket(flusher)
    stuck.outbox.block()
    for number in (1, 2):
        broadcast, conflated = _broadcast([stuck, reading], number, mode=mode)
        assert broadcast.write(ends=float("inf"))
    assert sum(conflated) == (1 if mode == "latest" else 0)
    assert stuck.writes == []
    stuck.open()
    assert stuck.numbers("a") == after
    assert reading.numbers("a") == [1, 2]


async def test_a_broadcast_goes_behind_what_is_pending() -> None:
    """A reply that was queued before it leaves before it."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    sock.outbox.send(b"reply\n")
    broadcast, _ = _broadcast([sock], 1)
    broadcast.write(ends=float("inf"))
    flusher.run()
    sock.outbox.flush()
    assert sock.written.startswith(b"reply\na 1 ")


async def test_a_broadcast_stops_at_the_end_of_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on where it was; nobody is left out or written to twice."""
    monkeypatch.setattr(delivery, "time", Clock(step=1))
    socks = [FakeSocket(Flusher(10**9)) for _ in range(3 * STRIDE + 1)]
    broadcast, _ = _broadcast(socks, 1)
    slices = 1
    while not broadcast.write(ends=0):
        assert sum(len(sock.writes) for sock in socks) == slices * STRIDE
        slices += 1
    assert slices == 4
    assert all(sock.numbers("a") == [1] for sock in socks)


async def test_a_closed_session_is_passed_over() -> None:
    """One that ended while the broadcast was on its way is written to no more."""
    sock = FakeSocket(Flusher(10**9))
    broadcast, _ = _broadcast([sock], 1)
    sock.outbox.close()
    assert broadcast.write(ends=float("inf"))
    assert sock.writes == []
