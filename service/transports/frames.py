"""WebSocket frames as a server sends them (RFC 6455, section 5.2): unmasked, unfragmented."""

from __future__ import annotations

import struct

_FIN_TEXT = 0x81


def text_frame(payload: bytes) -> bytes:
    """A text message of one frame."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_FIN_TEXT, size, payload)
    if size < 65_536:
        return struct.pack("!BBH", _FIN_TEXT, 126, size) + payload
    return struct.pack("!BBQ", _FIN_TEXT, 127, size) + payload
