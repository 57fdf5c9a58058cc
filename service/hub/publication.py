"""A publication, encoded once as a fragment from which pushes and reply lists are assembled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Publication:
    """One deliverable stream entry.

    Args:
        id: the entry's stream id, `(ms, seq)`.
        offset: what clients see of the id (streams/position.py).
        data: valid JSON without line breaks.
        info: who published, a JSON object, or None.
        tags: a JSON object of strings, or None.
    """

    __slots__ = ("id", "json", "offset", "tagged")

    def __init__(
        self,
        id: tuple[int, int],
        offset: int,
        data: bytes,
        info: bytes | None = None,
        tags: bytes | None = None,
    ) -> None:
        self.id = id
        self.offset = offset
        parts = [b'{"data":', data]
        if info is not None:
            parts += (b',"info":', info)
        parts.append(b',"offset":%d' % offset)
        # Tags stand last, so that `snapshot` can add one without parsing.
        self.tagged = tags is not None
        if tags is not None:
            parts += (b',"tags":', tags)
        parts.append(b"}")
        #: The publication as a JSON object of the client protocol.
        self.json = b"".join(parts)

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
