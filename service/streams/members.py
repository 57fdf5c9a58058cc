"""The members of one channel on this node, and what of them Redis is still to be told. No I/O."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple


class Step(NamedTuple):
    """What one call of the script writes."""

    node: str
    #: Clients that come, with what Redis keeps of them.
    come: list[tuple[str, bytes]]
    #: Clients that go.
    go: list[str]
    #: So many clients go, whichever they are: the node is dead.
    drop: int

    def __len__(self) -> int:
        return len(self.come) + len(self.go) + self.drop


class Members:
    """The truth about this node's clients in a channel, and how far Redis lags behind it.

    What is pending is bounded by the subscriptions of the node's sessions, now and in the last batch.
    """

    __slots__ = ("_dead", "_pending", "channel", "values", "written")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        #: Client to what Redis keeps of it.
        self.values: dict[str, bytes] = {}
        #: When a step was last written, in seconds of `time.monotonic`.
        self.written = 0.0
        #: Clients of which Redis is to be told, and whether it may have them.
        self._pending: dict[str, bool] = {}
        #: Names of dead nodes that may have left members.
        self._dead: set[str] = set()

    @property
    def has_work(self) -> bool:
        """Whether there is something to write."""
        return bool(self._pending or self._dead)

    def join(self, client: str, value: bytes) -> bool:
        """A client comes, or its value changes; whether it was not here before."""
        known = self.values.get(client)
        if known != value:
            self.values[client] = value
            self._pending.setdefault(client, known is not None)
        return known is None

    def leave(self, client: str) -> bool:
        """A client goes; whether it was here. One that Redis has not heard of yet cancels out."""
        if self.values.pop(client, None) is None:
            return False
        if self._pending.get(client, True):
            self._pending[client] = True
        else:
            del self._pending[client]
        return True

    def died(self, nodes: set[str]) -> None:
        """What these nodes may have left is to be removed."""
        self._dead |= nodes

    def begin_anew(self) -> None:
        """The node has another name, under which Redis has nothing."""
        self._pending = dict.fromkeys(self.values, False)

    def forgotten(self) -> None:
        """Something removed what Redis had; or it only seems so, to who read before the last write."""
        self._pending = dict.fromkeys(self.values, True)

    def take(self, node: str, limit: int) -> Step:
        """The next step, of at most `limit` clients; then `done` or `undo`.

        Where there is nothing to write, the step keeps the keys alive and has a due summary written. Dead
        nodes come last: a user who is here and was there never left.
        """
        taken = list(islice(self._pending, limit))
        for client in taken:
            del self._pending[client]
        if not taken and self._dead:
            return Step(next(iter(self._dead)), [], [], limit)
        come = [(client, self.values[client]) for client in taken if client in self.values]
        return Step(node, come, [client for client in taken if client not in self.values], 0)

    def undo(self, step: Step) -> None:
        """Nobody knows whether it was written."""
        for client in [*(client for client, _ in step.come), *step.go]:
            self._pending[client] = True

    def done(self, step: Step, size: int, now: float) -> None:
        """It was written; Redis has `size` clients of the step's node."""
        self.written = now
        if step.drop:
            if not size:
                self._dead.discard(step.node)
        elif not self._pending and size < len(self.values):
            self.forgotten()
