"""WebSocket frames, byte by byte: what a client sends and what it takes apart."""

from __future__ import annotations

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def client_frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, mask: bytes = b"\x01\x02\x03\x04", width: int = 0
) -> bytes:
    """A masked frame. `width`: bytes of the extended length (2 or 8); 0: no more than are needed."""
    size = len(payload)
    width = width or (0 if size < 126 else 2 if size < 65_536 else 8)
    marker = {0: size, 2: 126, 8: 127}[width]
    head = bytes([0x80 * fin | opcode, 0x80 | marker])
    extended = size.to_bytes(width, "big") if width else b""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + extended + mask + masked


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take apart what a server has sent."""
    found = []
    while data:
        assert data[0] & 0x80, "a server does not fragment"
        assert not data[1] & 0x80, "a server does not mask"
        size, at = data[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        assert len(data) >= at + size, "an incomplete frame"
        found.append((data[0] & 0x0F, data[at : at + size]))
        data = data[at + size :]
    return found
