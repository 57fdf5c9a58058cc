"""Publications as JSON in WebSocket text frames."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from service.hub.publication import Publication
from service.transports.frames import text_frame


class JsonWebSocket:
    """The wire format of JSON sessions over WebSocket; one object serves all of them."""

    __slots__ = ()

    def publications(self, channel: str, publications: Sequence[Publication]) -> bytes:
        """One text frame for each publication, joined: as good as one big frame, and simpler for clients."""
        start = b'{"push":{"channel":' + orjson.dumps(channel) + b',"pub":'
        if len(publications) == 1:
            return text_frame(start + publications[0].json + b"}}")
        return b"".join([text_frame(start + publication.json + b"}}") for publication in publications])


JSON_WEBSOCKET = JsonWebSocket()
