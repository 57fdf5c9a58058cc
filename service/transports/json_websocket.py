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
        start = b'{"push":{"channel":' + orjson.dumps(channel) + b',"'
        if len(publications) == 1:
            return text_frame(b'%b%b":%b}}' % (start, publications[0].kind, publications[0].json))
        return b"".join([text_frame(b'%b%b":%b}}' % (start, p.kind, p.json)) for p in publications])


JSON_WEBSOCKET = JsonWebSocket()
