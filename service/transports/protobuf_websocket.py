"""The Protobuf protocol over WebSocket: binary frames."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from service.hub.publication import Publication
from service.session.codec_protobuf import PROTOBUF
from service.transports.frames import binary_frame
from service.transports.websocket import WebSocketConnection
from service.wire import client_pb2 as wire
from service.wire.messages import delimited, fill, fill_publication


class ProtobufWebSocket:
    """The wire format of Protobuf sessions over WebSocket; one object serves all of them.

    Made of the JSON, once for each batch that has a Protobuf subscriber, and kept nowhere
    (docs/decisions/0009).
    """

    __slots__ = ()

    def publications(self, channel: str, publications: Sequence[Publication]) -> bytes:
        """One binary frame for each publication."""
        return b"".join([binary_frame(_push(channel, publication)) for publication in publications])


def _push(channel: str, publication: Publication) -> bytes:
    reply = wire.Reply()
    reply.push.channel = channel
    if publication.kind == b"pub":
        fill_publication(reply.push.pub, publication.json)
    else:
        fill(getattr(reply.push, publication.kind.decode()), orjson.loads(publication.json))
    return delimited(reply)


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
