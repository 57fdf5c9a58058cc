"""The delivery modes: what happens to a batch where a subscriber's socket is full.

One `Delivery` for each mode; another mode is another one here, and a name in `channels.Mode`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service.channels import Mode
from service.hub.outbox import Outbox
from service.hub.publication import Publication

#: Deliver a batch to a blocked outbox. Takes the channel, the batch, and the batch's chunk; returns how
#: many publications were conflated.
Blocked = Callable[[Outbox, str, list[Publication], bytes], int]


def _log(outbox: Outbox, channel: str, publications: list[Publication], chunk: bytes) -> int:
    """Nothing is lost: the batch is held, and beyond the bound the session closed (it recovers)."""
    outbox.hold(chunk)
    return 0


def _latest(outbox: Outbox, channel: str, publications: list[Publication], chunk: bytes) -> int:
    """Only the newest publication of the channel is kept."""
    if len(publications) > 1:
        chunk = outbox.format.publications(channel, publications[-1:])
    return len(publications) - 1 + outbox.conflate(channel, chunk)


class Delivery(NamedTuple):
    """A mode.

    `keeps_all`: every publication counts, so gaps are told, recoveries are complete, and bursts are
    split; otherwise the newest is enough, everywhere.
    """

    blocked: Blocked
    keeps_all: bool


DELIVERIES: dict[Mode, Delivery] = {
    "log": Delivery(_log, keeps_all=True),
    "latest": Delivery(_latest, keeps_all=False),
}
