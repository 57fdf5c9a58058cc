"""hub.delivery: what each mode does with a batch where a socket is full."""

from __future__ import annotations

from typing import get_args

from service.channels import Mode
from service.hub.delivery import DELIVERIES
from service.hub.flusher import Flusher
from tests.unit.fakes.fanout import LINES, FakeSocket, publication


async def test_log_holds_everything() -> None:
    """Behind a full socket a batch waits whole."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    publications = [publication(1), publication(2)]
    assert (
        DELIVERIES["log"].blocked(sock.outbox, "a", publications, LINES.publications("a", publications)) == 0
    )
    sock.open()
    assert sock.numbers("a") == [1, 2]


async def test_latest_keeps_the_newest_only() -> None:
    """Of a batch, and of what waited already, one is left; the others are counted."""
    sock = FakeSocket(Flusher(10**9))
    sock.outbox.block()
    for numbers, conflated in [([1, 2, 3], 2), ([4], 1), ([5, 6], 2)]:
        publications = [publication(n) for n in numbers]
        chunk = LINES.publications("a", publications)
        assert DELIVERIES["latest"].blocked(sock.outbox, "a", publications, chunk) == conflated
    sock.open()
    assert sock.numbers("a") == [6]


async def test_a_closed_session_holds_nothing() -> None:
    """One that ended while the batch was on its way is passed over."""
    flusher = Flusher(10**9)
    sock = FakeSocket(flusher)
    sock.outbox.close()
    for delivery in DELIVERIES.values():
        delivery.blocked(sock.outbox, "a", [publication(1)], b"chunk")
    assert flusher.held == 0
    assert sock.outbox.pending == []


def test_every_mode_is_there() -> None:
    """What can be configured can be delivered."""
    assert set(DELIVERIES) == set(get_args(Mode))
