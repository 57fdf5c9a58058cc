"""The last few publications of each channel, in memory, for joins and recoveries."""

from __future__ import annotations

from collections import OrderedDict, deque

from service.hub.publication import Publication, StreamId

#: What a publication costs beside its bytes: the object, its id, its place in the deque.
OVERHEAD = 250


class Window:
    """What came after `start`, up to the channel's cursor, without a gap.

    Args:
        size: publications kept at most.
    """

    __slots__ = ("_budget", "_publications", "_size", "bytes", "start")

    def __init__(self, budget: WindowBudget, size: int, start: StreamId) -> None:
        self._budget = budget
        self._size = size
        self._publications: deque[Publication] = deque()
        self.bytes = 0
        #: Everything after this id is here.
        self.start = start

    def __len__(self) -> int:
        return len(self._publications)

    @property
    def newest(self) -> Publication | None:
        """The last publication, if the window has it."""
        return self._publications[-1] if self._publications else None

    def extend(self, publications: list[Publication]) -> None:
        """What was fanned out just now."""
        kept, before = self._publications, self.bytes
        for publication in publications:
            kept.append(publication)
            self.bytes += len(publication.json) + OVERHEAD
        while len(kept) > self._size:
            self._drop_first()
        self._budget.grown(self, self.bytes - before)

    def _drop_first(self) -> None:
        dropped = self._publications.popleft()
        self.bytes -= len(dropped.json) + OVERHEAD
        self.start = dropped.id

    def knows(self, position: StreamId) -> bool:
        """Whether a position that a client names is one that this window has seen.

        Another one within its reach may be of an earlier life of the stream, of which this node knows
        nothing: then Redis has to be asked what became of it.
        """
        if position == self.start:
            return True
        for publication in reversed(self._publications):
            if publication.id <= position:
                return publication.id == position
        return False

    def after(self, position: StreamId) -> list[Publication] | None:
        """All publications after a position; None where the window does not reach back to it."""
        if position < self.start:
            return None
        found = []
        for publication in reversed(self._publications):
            if publication.id <= position:
                break
            found.append(publication)
        found.reverse()
        return found

    def reach_back(self, start: StreamId, publications: list[Publication]) -> None:
        """Begin at an earlier position.

        Args:
            publications: all that came after `start`, at least up to where the window begins now.
        """
        earlier = [p for p in publications if p.id <= self.start]
        if start >= self.start or len(self) + len(earlier) > self._size:
            return
        self._publications.extendleft(reversed(earlier))
        self.start = start
        size = sum(len(p.json) + OVERHEAD for p in earlier)
        self.bytes += size
        self._budget.grown(self, size)

    def take_back(self, ids: frozenset[StreamId]) -> None:
        """Forget publications that were deleted: they shall not be replayed."""
        before = self.bytes
        kept = [p for p in self._publications if p.id not in ids]
        self.bytes = sum(len(p.json) + OVERHEAD for p in kept)
        self._publications = deque(kept)
        self._budget.grown(self, self.bytes - before)

    def clear(self, start: StreamId) -> None:
        """Forget everything; what comes after `start` will be here."""
        self._budget.grown(self, -self.bytes)
        self._publications.clear()
        self.bytes = 0
        self.start = start

    def evict(self) -> None:
        """Make room for other windows: forget everything up to now."""
        if self._publications:
            self.clear(self._publications[-1].id)

    def close(self) -> None:
        """The channel is followed no more."""
        self.clear(self.start)
        self._budget.forget(self)


class WindowBudget:
    """The bound over all windows of a node. The window that has been quiet longest makes room first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._windows: OrderedDict[Window, None] = OrderedDict()
        self.bytes = 0

    def grown(self, window: Window, size: int) -> None:
        """A window has grown by so many bytes, or shrunk."""
        self.bytes += size
        if size <= 0:
            return
        self._windows[window] = None
        self._windows.move_to_end(window)
        while self.bytes > self._limit and self._windows:
            quietest = next(iter(self._windows))
            del self._windows[quietest]
            quietest.evict()

    def forget(self, window: Window) -> None:
        """A window is gone."""
        self._windows.pop(window, None)
