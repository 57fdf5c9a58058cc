"""The checker tells a gap from a duplicate."""

from __future__ import annotations

import pytest

from tests.support.checker import Given, check

STREAM = [Given(offset, {"n": offset}) for offset in range(1, 6)]


def test_equal_is_fine() -> None:
    check(list(STREAM), STREAM)


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (STREAM[:2] + STREAM[3:], "a gap at index 2"),
        (STREAM[1:], "a gap at index 0"),
        (STREAM[:4], "the end is missing at index 4"),
        (STREAM[:3] + STREAM[2:], "a duplicate at index 3"),
        ([*STREAM, STREAM[0]], "a duplicate at index 5"),
        ([STREAM[1], STREAM[0], *STREAM[2:]], "out of order at index 0"),
        ([*STREAM, Given(9, {"n": 9})], "an entry that the stream does not hold at index 5"),
        ([Given(1, {"n": 7}), *STREAM[1:]], "an entry that the stream does not hold at index 0"),
        ([], "the end is missing at index 0"),
    ],
)
def test_a_difference_is_named(received: list[Given], kind: str) -> None:
    with pytest.raises(AssertionError, match=f"the client: {kind} of 5"):
        check(received, STREAM)
