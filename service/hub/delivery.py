"""The delivery modes: what happens to a batch where a subscriber's socket is full.

One function for each mode; another mode is another function here and a name in `channels.Mode`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from service.channels import Mode
from service.hub.flusher import STRIDE
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


BLOCKED: dict[Mode, Blocked] = {"log": _log, "latest": _latest}


class BatchBroadcast:
    """A batch of one channel that goes straight to its subscribers' sockets (`flusher.Broadcast`)."""

    __slots__ = ("_at", "_blocked", "_channel", "_chunk", "_conflated", "_outboxes", "_publications")

    def __init__(
        self,
        channel: str,
        mode: Mode,
        outboxes: list[Outbox],
        publications: list[Publication],
        chunk: bytes,
        conflated: Callable[[int], None],
    ) -> None:
        self._channel = channel
        self._blocked = BLOCKED[mode]
        self._outboxes = outboxes
        self._publications = publications
        self._chunk = chunk
        self._conflated = conflated
        self._at = 0

    def write(self, ends: float) -> bool:
        """Write on until `ends`; tell whether all is written."""
        outboxes, chunk, at = self._outboxes, self._chunk, self._at
        while at < len(outboxes):
            for outbox in outboxes[at : at + STRIDE]:
                if outbox.blocked:
                    self._conflated(self._blocked(outbox, self._channel, self._publications, chunk))
                elif outbox.pending:  # an interval's, or of a session that spoke meanwhile
                    outbox.send(chunk)
                else:
                    outbox.write(chunk)
            at += STRIDE
            if at < len(outboxes) and time.perf_counter() >= ends:
                self._at = at
                return False
        return True
