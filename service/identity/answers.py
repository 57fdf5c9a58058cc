"""Answers kept for a while, within a bound of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

A = TypeVar("A")

#: Bytes of all answers, as they came over the wire; beyond, those unused for longest go.
MAX_BYTES = 8 * 2**20

#: Bytes that an answer takes beside its own.
_ENTRY_BYTES = 500


class _Entry(NamedTuple, Generic[A]):
    answer: A
    size: int
    until: float


class Answers(Generic[A]):
    """Answers by question. Questions are kept as digests: they may hold what is secret.

    Args:
        seconds: for which an answer is good; 0: none is kept.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry[A]] = OrderedDict()
        self._bytes = 0

    def get(self, question: bytes) -> A | None:
        """The answer, if there is one that is still good."""
        if not self._seconds:
            return None
        key = _digest(question)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.until:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def put(self, question: bytes, answer: A, size: int) -> None:
        """Keep an answer.

        Args:
            size: bytes that it had over the wire.
        """
        if not self._seconds:
            return
        key = _digest(question)
        if key in self._entries:
            self._remove(key)
        self._entries[key] = _Entry(answer, size + _ENTRY_BYTES, self._clock() + self._seconds)
        self._bytes += size + _ENTRY_BYTES
        while self._bytes > MAX_BYTES:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key).size


def _digest(question: bytes) -> bytes:
    return hashlib.blake2b(question, digest_size=16).digest()
