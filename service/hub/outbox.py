"""One session's pending output: first in, first out, bounded in bytes, conflating where the mode allows.

While the socket takes what it is given, chunks stay here from the fan-out to the flusher's turn,
microseconds later. While it does not (`blocked`), what happens is the namespace's mode:
`hold` queues up to the bound and then gives the session up as slow; `conflate` keeps the newest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol, cast

from service.hub.flusher import IDLE, NOW, Flusher
from service.hub.publication import WireFormat

#: Bytes handed to the transport at a time. More would sit there as a private copy that nothing can
#: conflate, less would cost more system calls.
PIECE = 65_536

#: Encoded output, or what is left of it.
Chunk = bytes | memoryview

#: Chunks that are joined before their bytes are counted.
FEW = 256


class Owner(Protocol):
    """Whose output it is: a session."""

    def unsubscribed(self, channel: str) -> None:
        """The subscription is gone because continuity broke; tell the client."""

    def overflow(self, reason: str) -> None:
        """The outbox gave up: close the session as slow. `reason` is a metric's label."""

    def finish(self, data: bytes) -> None:
        """The outbox is closed, and this is the rest of what it has written in part."""


class _Nobody:
    """Whose outbox a closed one is: so that it does not keep its session alive, nor the reverse."""

    def unsubscribed(self, channel: str) -> None:
        """Nobody is to be told."""

    def overflow(self, reason: str) -> None:
        """Nobody is to be closed."""

    def finish(self, data: bytes) -> None:
        """Nobody reads it."""


_NOBODY = _Nobody()


def _take_nothing(data: bytes) -> int:
    return 0


def _drop(data: bytes) -> None:
    pass


class Outbox:
    """Pending output of one session.

    Args:
        transmit: the bare system call, for the hottest loop: returns how many bytes the socket took, and
            raises OSError as `socket.send` does. What it did not take goes to `write`.
        write: gives bytes to the socket; has `block` called before it returns if that is full.
        format: how publications are encoded for this session.
        limit: bytes of held output at which the session is given up.
    """

    __slots__ = (
        "_begun",
        "_flusher",
        "_limit",
        "blocked",
        "blocked_at",
        "closed",
        "conflated",
        "due",
        "format",
        "held",
        "owner",
        "pending",
        "transmit",
        "write",
    )

    def __init__(
        self,
        owner: Owner,
        write: Callable[[bytes], None],
        format: WireFormat,
        flusher: Flusher,
        limit: int,
        transmit: Callable[[bytes], int] = _take_nothing,
    ) -> None:
        self.owner = owner
        #: Gives bytes to the socket; order is the caller's business.
        self.write = write
        self.transmit = transmit
        self._flusher = flusher
        self._limit = limit
        self.format = format
        #: Chunks in order. The fan-out appends here itself while the outbox is not blocked.
        self.pending: list[Chunk] = []
        # The first of them is the rest of a chunk that has been written in part.
        self._begun = False
        #: The newest chunk of each conflated channel, while blocked; sent after `pending`.
        self.conflated: dict[str, bytes] | None = None
        #: When the flusher looks after it; see `flusher.Flushable`.
        self.due = IDLE
        #: The socket takes no more.
        self.blocked = False
        #: When it last began to be blocked, by `time.monotonic`.
        self.blocked_at = 0.0
        #: Bytes in `pending` and `conflated` while blocked.
        self.held = 0
        #: Nothing goes out any more.
        self.closed = False

    def send(self, chunk: bytes) -> None:
        """Queue a reply or a push of the session itself, behind all that is pending."""
        if self.closed:
            return
        if self.blocked:
            self.hold(chunk)
            return
        self.pending.append(chunk)
        if self.due != NOW:
            self._flusher.queue(self)

    def hold(self, chunk: bytes) -> None:
        """Queue behind a full socket; beyond the limit the session is slow."""
        if self.closed:
            return
        self.pending.append(chunk)
        self._add_held(len(chunk))
        if self.held > self._limit:
            self.give_up("outbox")

    def conflate(self, channel: str, chunk: bytes) -> bool:
        """Keep only the newest chunk of a channel behind a full socket; tell whether one was replaced."""
        if self.closed:
            return False
        if self.conflated is None:
            self.conflated = {}
        # Taken out and put in anew: the channel that has waited longest since its last value goes first.
        old = self.conflated.pop(channel, None)
        self.conflated[channel] = chunk
        self._add_held(len(chunk) - (len(old) if old is not None else 0))
        if self.held > self._limit:
            self.give_up("outbox")
        return old is not None

    def discard(self, channel: str) -> None:
        """The session has left a channel: forget its conflated value."""
        if self.conflated is not None and (old := self.conflated.pop(channel, None)) is not None:
            self._add_held(-len(old))

    def _add_held(self, size: int) -> None:
        self.held += size
        self._flusher.add_held(size)

    # The socket's state

    def block(self) -> None:
        """The socket takes no more for now."""
        if not self.blocked and not self.closed:
            self.blocked = True
            self.blocked_at = time.monotonic()
            self._flusher.blocked.add(self)
            conflated = self.conflated.values() if self.conflated else ()
            self._add_held(sum(map(len, self.pending)) + sum(map(len, conflated)))

    def unblock(self) -> None:
        """The socket has room: send on."""
        if self.blocked and not self.closed:
            self.blocked = False
            self._flusher.blocked.discard(self)
            self._add_held(-self.held)
            self.flush()

    def flush(self) -> None:
        """Write until the socket is full or nothing is left."""
        self.due = IDLE
        pending = self.pending
        data: Chunk
        if len(pending) == 1 and not self.blocked:  # nearly always
            data = pending.pop()
            if isinstance(data, bytes) and len(data) <= PIECE:
                self.write(data)
            else:
                self.put(data)
        while not self.blocked and (pending or self.conflated):
            if not pending:
                data = self._take_conflated()
            # Few chunks nearly always make a small piece: counting their bytes first would cost more.
            elif len(pending) > FEW or len(pending[0]) > PIECE or len(joined := b"".join(pending)) > PIECE:
                data = self._take_piece()
            else:
                pending.clear()
                self._begun = False
                self.write(joined)
                continue
            self.put(data)

    def put(self, data: Chunk) -> None:
        """Write what comes before all that is pending: a piece at most, the rest waits here and counts."""
        self._begun = len(data) > PIECE
        if self._begun:
            view = memoryview(data)  # the bytes stay shared
            self.pending.insert(0, view[PIECE:])
            data = view[:PIECE]
        self.write(data if isinstance(data, bytes) else bytes(data))

    def put_rest(self, data: Chunk) -> None:
        """Write on with what a system call has not taken; nothing is pending, the outbox not blocked."""
        self.pending.append(data)
        self._begun = True
        self.flush()

    def _take_piece(self) -> Chunk:
        size = count = 0
        for chunk in self.pending:
            size += len(chunk)
            count += 1
            if size >= PIECE:
                break
        piece = self.pending[:count]
        del self.pending[:count]
        return piece[0] if count == 1 else b"".join(piece)

    def _take_conflated(self) -> bytes:
        assert self.conflated is not None
        size, piece = 0, []
        while self.conflated and size < PIECE:
            chunk = self.conflated.pop(next(iter(self.conflated)))
            piece.append(chunk)
            size += len(chunk)
        return b"".join(piece)

    def give_up(self, reason: str) -> None:
        """Drop everything and have the session closed as slow."""
        owner = self.owner
        self.close()
        owner.overflow(reason)

    def close(self) -> None:
        """Drop everything; nothing goes out any more, but what has been begun: a frame must not be cut."""
        begun = self.pending[0] if self._begun and self.pending else None
        self._begun = False
        # Blocked for good: the fan-out's loops look at one flag only.
        self.closed = self.blocked = True
        self.pending.clear()
        self.conflated = None
        if self.held:
            self._add_held(-self.held)
        self._flusher.blocked.discard(self)
        if begun is not None:
            with contextlib.suppress(Exception):  # it may have failed before, and be closed for that
                self.owner.finish(cast(bytes, begun))  # a memoryview, so that it is not copied
        self.owner, self.write, self.transmit = _NOBODY, _drop, _take_nothing
