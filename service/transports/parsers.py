"""Parsers of incoming frames, lent to a connection for as long as it is in the middle of something.

A parser of `websockets` takes nearly 2 KB. Between two frames, and outside a fragmented message, an
open connection's parser is as good as any other's; so idle connections have none.
"""

from __future__ import annotations

import logging

from websockets.frames import Frame
from websockets.protocol import OPEN, Side
from websockets.protocol import Protocol as Parser

#: Parsers kept for the next connection that needs one.
KEPT = 64


class Parsers:
    """Lends parsers.

    Args:
        max_size: largest message, in bytes.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._logger = logging.getLogger("websockets.server")
        self._kept: list[Parser] = []

    def take(self) -> Parser:
        """A parser at the start of a frame."""
        if self._kept:
            return self._kept.pop()
        return Parser(Side.SERVER, state=OPEN, max_size=self._max_size, logger=self._logger)

    def give_back(self, parser: Parser) -> None:
        """The reverse of `take`. The parser must be open and at the start of a frame and message."""
        if len(self._kept) < KEPT:
            self._kept.append(parser)


def size_on_wire(frame: Frame) -> int:
    """Bytes that a client's frame took at least: its length may be written longer than needed."""
    size = len(frame.data)
    return 6 + size + (0 if size < 126 else 2 if size < 65_536 else 8)


__all__ = ["OPEN", "Parser", "Parsers", "size_on_wire"]
