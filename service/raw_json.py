"""JSON text that is passed on as it was written: no digit lost, no name dropped."""

from __future__ import annotations

import json
import re

# Only where values begin and end is of interest, not what they are.
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")


class JsonList:
    """Items that are JSON already, as a value to be encoded in any format."""

    __slots__ = ("items",)

    def __init__(self, items: list[bytes]) -> None:
        self.items = items

    def encoded(self) -> bytes:
        """The same as JSON."""
        return b"[" + b",".join(self.items) + b"]"


def cut(line: bytes, *path: str | int) -> bytes:
    """The bytes of the value at a path of names, of which the last counts where there are several.

    Args:
        line: valid JSON; objects, as deep as the path goes, which exists, and lists where it has an index.

    Raises:
        RecursionError: nested deeper than can be followed.
    """
    text = line.decode()
    start, end = _skip(text, 0), len(text)
    for step in path:
        start, end = _item(text, start, step) if isinstance(step, int) else _member(text, start, step)
    return text[start:end].encode()


def _member(text: str, at: int, name: str) -> tuple[int, int]:
    """Where the value of this name begins and ends, in the object that begins at `at`."""
    start = end = -1
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _scan(text, at)
        value = _skip(text, _skip(text, at) + 1)  # behind the colon
        _, at = _scan(text, value)
        if key == name:
            start, end = value, at
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    assert start >= 0
    return start, end


def _item(text: str, at: int, index: int) -> tuple[int, int]:
    """Where an item begins and ends, of the list that begins at `at`."""
    start = end = at
    for _ in range(index + 1):
        start = _skip(text, end + 1)  # behind the bracket, or a comma
        _, end = _scan(text, start)
        end = _skip(text, end)
    return start, _scan(text, start)[1]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()
