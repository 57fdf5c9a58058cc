"""The Redis keys of a channel.

The reserved namespace holds what is not a channel of clients: names that begin with it are keys already.
"""

from __future__ import annotations

from service.channels import RESERVED_NAMESPACE

_RESERVED = RESERVED_NAMESPACE + ":"
_LIVE = _RESERVED + "live:"


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
        return channel if channel.startswith(_RESERVED) else self.prefix + channel

    def channel(self, stream_key: bytes) -> str | None:
        """The channel of a stream's key; None for keys of others."""
        try:
            key = stream_key.decode()
        except UnicodeDecodeError:
            return None
        return key[len(self.prefix) :] if key.startswith(self.prefix) else None

    def beside(self, kind: str, channel: str) -> str:
        """A key that belongs to a channel; the hash tag puts it in the stream's slot."""
        if channel.startswith(_RESERVED):  # has a hash tag
            return f"{_RESERVED}{kind}:{channel.removeprefix(_RESERVED)}"
        return f"{_RESERVED}{kind}:{{{self.prefix}{channel}}}"

    def epoch(self, channel: str) -> str:
        """Names the life of the stream."""
        return self.beside("epoch", channel)

    def live(self, channel: str) -> str:
        """The stream of what is over at once: joins and leaves, who is typing."""
        return self.beside("live", channel)

    def is_live(self, channel: str) -> bool:
        """Whether `live` made this name."""
        return channel.startswith(_LIVE)

    def control(self) -> str:
        """The stream of commands to all nodes."""
        return f"{_RESERVED}control:{{{self.prefix}}}"

    def mailbox(self, node: str) -> str:
        """The stream of what other nodes have for one. By its name it is one of those that expire."""
        return f"{_LIVE}mailbox:{{{self.prefix}{node}}}"

    def revocations(self) -> str:
        """Sorted set: user to the ms up to which its tokens were issued in vain."""
        return f"{_RESERVED}revocations:{{{self.prefix}}}"

    def connections(self, user: str) -> str:
        """Stands for a channel in presence: who is in it are the connections of a user."""
        return f"{_RESERVED}connections:{{{self.prefix}{user}}}"

    def nodes(self) -> str:
        """Sorted set: a node's present life to the ms of its last heartbeat (streams/nodes.py)."""
        return f"{_RESERVED}nodes:{{{self.prefix}}}"

    def report(self, name: str) -> str:
        """Hash: node to what it reports, for somebody who has asked under this name."""
        return f"{_RESERVED}report:{{{self.prefix}}}:{name}"

    def rate(self, namespace: str, user: str) -> str:
        """What a user has published in a namespace of late."""
        return f"{_RESERVED}rate:{{{self.prefix}{namespace}:{user}}}"

    def trim_lease(self) -> str:
        """Held by the node that trims."""
        return f"{RESERVED_NAMESPACE}:trim:{{{self.prefix}}}"
