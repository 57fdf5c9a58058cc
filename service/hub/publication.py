"""A publication, encoded once as a fragment from which pushes and reply lists are assembled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

#: An entry's place in its stream: `(ms, seq)`.
StreamId = tuple[int, int]


class Publication:
    """One deliverable stream entry.

    Args:
        id: of the entry.
        offset: what clients see of the id (streams/position.py); 0: nothing.
        data: valid JSON without line breaks.
        info: who published, a JSON object, or None.
        tags: a JSON object of strings, or None.
        time: when, in ms, if clients shall see it.
        takes_back: earlier publications that have been deleted.
    """

    __slots__ = ("id", "json", "kind", "offset", "tagged", "takes_back")

    def __init__(
        self,
        id: StreamId,
        offset: int,
        data: bytes,
        info: bytes | None = None,
        tags: bytes | None = None,
        time: int | None = None,
        takes_back: frozenset[StreamId] | None = None,
    ) -> None:
        self.id = id
        self.offset = offset
        self.takes_back = takes_back
        #: The kind of push.
        self.kind = b"pub"
        parts = [b'{"data":', data]
        if info is not None:
            parts += (b',"info":', info)
        if offset:
            parts.append(b',"offset":%d' % offset)
        if time is not None:
            parts.append(b',"time":%d' % time)
        # Tags stand last, so that `snapshot` can add one without parsing.
        self.tagged = tags is not None
        if tags is not None:
            parts += (b',"tags":', tags)
        parts.append(b"}")
        #: The publication as a JSON object of the client protocol.
        self.json = b"".join(parts)

    @classmethod
    def presence(cls, id: StreamId, kind: bytes, info: bytes) -> Publication:
        """A `join` or `leave` push: not a publication to clients, but it travels like one."""
        push = cls(id, 0, b"null")
        push.kind = kind
        push.json = b'{"info":%b}' % info
        return push

    def snapshot(self) -> bytes:
        """The JSON with the tag that marks a value as the current one, not as news."""
        if not self.tagged:
            return self.json[:-1] + b',"tags":{"snapshot":"true"}}'
        separator = b"" if self.json.endswith(b"{}}") else b","
        return self.json[:-2] + separator + b'"snapshot":"true"}}'


class WireFormat(Protocol):
    """How publications become bytes for one kind of transport; one object for all its sessions."""

    def publications(self, channel: str, publications: Sequence[Publication]) -> bytes:
        """Framed pushes of a batch of one channel, in order."""
