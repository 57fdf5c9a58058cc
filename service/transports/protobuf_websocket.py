"""The Protobuf protocol over WebSocket: binary frames."""

from __future__ import annotations

from collections.abc import Sequence

from service.hub.publication import Publication
from service.session.codec_protobuf import PROTOBUF
from service.transports.frames import binary_frame
from service.transports.websocket import WebSocketConnection


class ProtobufWebSocket:
    """The wire format of Protobuf sessions over WebSocket; one object serves all of them.

    Made of the JSON, once for each batch that has a Protobuf subscriber, and not kept (docs/decisions/0009)
    but for the last one: where many sockets are full, each of them asks for the newest of the batch.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[str, Publication, bytes] | None = None

    def publications(self, channel: str, publications: Sequence[Publication]) -> bytes:
        """One binary frame for each publication."""
        return b"".join([self._frame(channel, publication) for publication in publications])

    def _frame(self, channel: str, publication: Publication) -> bytes:
        last = self._last
        if last is not None and last[1] is publication and last[0] == channel:
            return last[2]
        frame = binary_frame(PROTOBUF.encode_push(channel, publication.kind.decode(), publication.json))
        self._last = (channel, publication, frame)
        return frame


PROTOBUF_WEBSOCKET = ProtobufWebSocket()


class ProtobufConnection(WebSocketConnection):
    """One client's connection that speaks Protobuf."""

    format = PROTOBUF_WEBSOCKET
    codec = PROTOBUF
    text = False

    __slots__ = ()

    def frame(self, message: bytes) -> bytes:
        """A message as a binary frame."""
        return binary_frame(message)
