"""What every feed yields: one entry of one channel at a moment of the feed's own time line."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """One publication to come.

    `at_ms` is on the feed's time line: only the distance to the next record counts. `data` is JSON.
    """

    at_ms: float
    channel: str
    data: bytes
