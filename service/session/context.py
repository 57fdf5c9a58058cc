"""What all sessions of a node share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.config import Settings
from service.errors import Disconnect
from service.hub.flusher import Flusher
from service.hub.hub import Hub
from service.hub.publication import WireFormat
from service.metrics import Metrics
from service.session.wheel import Wheel
from service.streams.history import History
from service.streams.publish import Publisher
from service.tasks import Tasks


class Context(NamedTuple):
    """Everything a session works with; built once by app.py."""

    node: str
    settings: Settings
    hub: Hub
    flusher: Flusher
    history: History
    publisher: Publisher
    wheel: Wheel
    tasks: Tasks
    metrics: Metrics


class Transport(Protocol):
    """What a session needs of the connection it speaks over."""

    #: How publications are encoded.
    format: WireFormat

    @property
    def transmit(self) -> Callable[[bytes], int]:
        """The bare system call; see `Outbox`."""

    def write(self, data: bytes) -> None:
        """Give bytes to the socket; see `Outbox`."""

    def frame(self, message: bytes) -> bytes:
        """The bytes on the wire of one message of the protocol."""

    def close(self, disconnect: Disconnect) -> None:
        """Begin to close: the last thing that is written."""

    def abort(self) -> None:
        """Cut the connection at once."""

    def pause_reading(self) -> None:
        """Read no more for now: the client sends faster than it is served."""

    def resume_reading(self) -> None:
        """Read again."""
