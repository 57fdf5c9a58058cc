"""The sweep: every followed channel is read once in a while, hint or no hint, and its epoch compared."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from service.channels import LIVE, MAILBOX
from service.errors import Unavailable
from service.metrics import Metrics
from service.sections import RedisSettings
from service.streams.followed import Followed
from service.streams.history import EPOCH_TTL, History
from service.streams.position import ZERO
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Channels that one slice of the sweep reads.
SLICE = 500

#: So many hints in one period, with more than this share of reads that found nothing new, mean that
#: Redis drops hints to make room in its tracking table.
MIN_HINTS, EMPTY_SHARE = 100, 0.5


class Sweep:
    """Marks all channels in slices. Without tracking it does so at the pace of polling.

    Args:
        mark: has a channel read.
        tracking: whether Redis sends hints.
    """

    def __init__(
        self,
        settings: RedisSettings,
        history: History,
        mark: Callable[[Followed], None],
        metrics: Metrics,
        *,
        tracking: bool,
    ) -> None:
        self._period = settings.sweep_seconds
        self._read_period = settings.sweep_seconds if tracking else settings.poll_interval_ms / 1000
        self._history = history
        self._mark = mark
        self._metrics = metrics
        self._tracking = tracking
        self._hints = self._empty_hints = 0
        self._log_limit = OncePer(600.0)

    def count_hint(self, *, empty: bool) -> None:
        """A hinted read came back, with something new or `empty`."""
        self._hints += 1
        self._empty_hints += empty

    async def run(self, followed: Mapping[bytes, Followed]) -> None:
        """Sweep for as long as the tail's connection lasts; never returns."""
        epochs_due = 0.0
        refresh_due = time.monotonic() + EPOCH_TTL / 4
        while True:
            everything = list(followed.values())
            slices = [everything[i : i + SLICE] for i in range(0, len(everything), SLICE)] or [[]]
            with_epochs = time.monotonic() >= epochs_due
            if with_epochs:
                epochs_due = time.monotonic() + self._period
                self._judge_hints()
            # While there is no stream the epoch expires, and that of a live stream always does, but not while
            # the channel is followed.
            refresh = with_epochs and time.monotonic() >= refresh_due
            if refresh:
                refresh_due = time.monotonic() + EPOCH_TTL / 4
            for part in slices:
                await asyncio.sleep(self._read_period / len(slices))
                for channel in part:
                    channel.swept = self._tracking
                    self._mark(channel)
                    expires = channel.namespace is LIVE or channel.namespace is MAILBOX
                    if refresh and (channel.cursor == ZERO or expires):
                        channel.refresh_epoch = True
                if with_epochs:
                    try:
                        await self.check_epochs(part)
                    except Unavailable:
                        continue  # the next sweep looks again

    async def check_epochs(self, part: list[Followed]) -> None:
        """Compare epochs; a channel whose epoch is another is marked, and its next read is a gap.

        Raises:
            Unavailable: as `History.epochs`.
        """
        for start in range(0, len(part), SLICE):
            await self._check_slice([f for f in part[start : start + SLICE] if f.cursor is not None])

    async def _check_slice(self, part: list[Followed]) -> None:
        if not part:
            return
        epochs = await self._history.epochs([followed.channel for followed in part])
        changed = [
            followed
            for followed, epoch in zip(part, epochs, strict=True)
            if epoch != followed.epoch or followed.refresh_epoch
        ]
        if not changed:
            return
        # Where nothing was ever read from the stream, nothing can have been lost with it.
        wanted = [(f.channel, f.epoch if f.cursor == ZERO else None) for f in changed]
        for followed, now in zip(changed, await self._history.ensure_epochs(wanted), strict=True):
            if now is None:
                continue
            followed.refresh_epoch = False
            if now != followed.epoch:
                followed.epoch = now
                followed.check = followed.epoch_changed = True
                self._mark(followed)

    def _judge_hints(self) -> None:
        self._metrics.tail_empty_reads.inc(self._empty_hints)
        if (
            self._hints >= MIN_HINTS
            and self._empty_hints > self._hints * EMPTY_SHARE
            and self._log_limit.allows("tracking table")
        ):
            logger.warning(
                "%d of %d hinted reads found nothing new: Redis forgets hints early; raise "
                "tracking-table-max-keys above the number of streams that all nodes follow",
                self._empty_hints,
                self._hints,
            )
        self._hints = self._empty_hints = 0
