"""The delivery modes: what happens to a batch where a subscriber's socket is full.

One `Delivery` for each mode; another mode is another one here, and a name in `channels.Mode`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from service.channels import Mode
from service.hub.flusher import STRIDE
from service.hub.outbox import Outbox
from service.hub.publication import Publication

logger = logging.getLogger(__name__)

#: Deliver a batch to a blocked outbox. Takes the channel, the batch, and the batch's chunk; returns how
#: many publications the client goes without.
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


def _sample(outbox: Outbox, channel: str, publications: list[Publication], chunk: bytes) -> int:
    """What there is no room for is dropped."""
    return len(publications)


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
    "sample": Delivery(_sample, keeps_all=False),
}


class Broadcast:
    """A batch of one channel that nothing else is pending with, on its way straight to the sockets.

    It touches each outbox once, where appending and flushing touch it twice, far enough apart that it
    has left the processor's cache by then. The flusher runs it in slices; before anything is done that
    must come after it, `hand_over` puts what is left into the outboxes.
    """

    __slots__ = ("_blocked", "_channel", "_chunk", "_missed", "_publications", "_rest")

    def __init__(
        self,
        channel: str,
        mode: Mode,
        outboxes: list[Outbox],
        publications: list[Publication],
        chunk: bytes,
        missed: Callable[[int], None],
    ) -> None:
        self._channel = channel
        self._blocked = DELIVERIES[mode].blocked
        # One iterator for all that go through it: what `hand_over` takes in the middle of a `write`
        # (a session that overflows leaves its channels) is not written again.
        self._rest = iter(outboxes)
        self._publications = publications
        self._chunk = chunk
        self._missed = missed

    def write(self, ends: float) -> bool:
        """Write on until `ends` (of `time.perf_counter`); tell whether all is written."""
        chunk, size = self._chunk, len(self._chunk)
        for count, outbox in enumerate(self._rest, 1):
            try:
                if outbox.blocked:
                    self._missed(self._blocked(outbox, self._channel, self._publications, chunk))
                elif outbox.pending:  # an interval's, or the session's own
                    outbox.send(chunk)
                else:
                    try:
                        taken = outbox.transmit(chunk)
                    except OSError:  # full, or broken: the outbox knows what to do
                        taken = 0
                    if taken != size:
                        outbox.put_rest(memoryview(chunk)[taken:])
            except Exception:  # one session's failure must not stop the others
                logger.exception("a session could not be written to")
                outbox.give_up("error")
            if count % STRIDE == 0 and time.perf_counter() >= ends:
                return False
        return True

    def hand_over(self) -> None:
        """Have the outboxes keep what is left, in the same step."""
        for outbox in self._rest:
            if outbox.blocked:
                self._missed(self._blocked(outbox, self._channel, self._publications, self._chunk))
            else:
                outbox.send(self._chunk)
