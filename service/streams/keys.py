"""The Redis keys of a channel."""

from __future__ import annotations

from service.channels import RESERVED_NAMESPACE


class Keys:
    """Names keys under an optional global prefix.

    Args:
        prefix: stands before every channel in the stream's key, and before the keys beside it.
    """

    __slots__ = ("prefix",)

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def stream(self, channel: str) -> str:
        """The stream itself."""
        return self.prefix + channel

    def channel(self, stream_key: bytes) -> str | None:
        """The channel of a stream's key; None for keys of others."""
        try:
            key = stream_key.decode()
        except UnicodeDecodeError:
            return None
        return key[len(self.prefix) :] if key.startswith(self.prefix) else None

    def epoch(self, channel: str) -> str:
        """Names the life of the stream; the hash tag puts it in the stream's slot."""
        return f"{RESERVED_NAMESPACE}:epoch:{{{self.prefix}{channel}}}"

    def trim_lease(self) -> str:
        """Held by the node that trims."""
        return f"{RESERVED_NAMESPACE}:trim:{{{self.prefix}}}"
