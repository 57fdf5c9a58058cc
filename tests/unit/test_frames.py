"""transports.frames: a server's frames, with the shortest length that fits."""

import pytest

from service.transports.frames import binary_frame, text_frame
from tests.unit.fakes.frames import BINARY, TEXT, server_frames


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_text_frame(size: int, head: bytes) -> None:
    """Final, unmasked, and the payload as it is."""
    payload = bytes(size)
    frame = text_frame(payload)
    assert frame == head + payload
    assert server_frames(frame) == [(TEXT, payload)]


def test_binary_frame() -> None:
    """The same, but for the opcode."""
    assert server_frames(binary_frame(b"\xff\0")) == [(BINARY, b"\xff\0")]
