"""What all sessions of a node share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.chat.chat import Chat
from service.config import Settings
from service.errors import Disconnect
from service.hub.flusher import Flusher
from service.hub.hub import Channel, Hub
from service.hub.publication import WireFormat
from service.identity.hooks import Hooks
from service.identity.identity import Grant
from service.identity.tokens import TokenVerifier
from service.metrics import Metrics
from service.session.admission import Admission
from service.session.bans import Bans
from service.session.codec import Codec
from service.session.emulated import Emulated
from service.session.users import Users
from service.session.wheel import Wheel
from service.streams.control import Control
from service.streams.history import History
from service.streams.keys import Keys
from service.streams.presence import Presence
from service.streams.publish import Publisher
from service.streams.rates import Rates
from service.streams.reports import Reports
from service.tasks import Tasks


class Context(NamedTuple):
    """Everything a session works with; built once by app.py."""

    node: str
    settings: Settings
    keys: Keys
    hub: Hub
    flusher: Flusher
    history: History
    publisher: Publisher
    rates: Rates
    presence: Presence
    chat: Chat
    bans: Bans
    tokens: TokenVerifier
    hooks: Hooks
    control: Control
    reports: Reports
    users: Users
    emulated: Emulated
    admission: Admission
    wheel: Wheel
    tasks: Tasks
    metrics: Metrics


class Detail(NamedTuple):
    """What is particular about a subscription.

    Args:
        server_side: made when the client connected, by its token or its user id.
        grant: of the subscription token it was made with.
        info: JSON, shown to others as `chan_info`.
        live: the channel of what is over at once, if the client gets that.
        present: whether others see the client in the channel.
    """

    server_side: bool = False
    grant: Grant | None = None
    info: bytes | None = None
    live: Channel | None = None
    present: bool = False

    @property
    def expires_at(self) -> float | None:
        """Unix seconds after which the subscription ends; None: never."""
        return None if self.grant is None else self.grant.expires_at


class Transport(Protocol):
    """What a session needs of the connection it speaks over."""

    #: How publications are encoded.
    format: WireFormat
    #: The format of all other messages.
    codec: Codec
    #: What the client sends commands under that come by other connections; "": none do.
    secret: str

    @property
    def transmit(self) -> Callable[[bytes], int]:
        """The bare system call; see `Outbox`."""

    def write(self, data: bytes) -> None:
        """Give bytes to the socket; see `Outbox`."""

    def finish(self, data: bytes) -> None:
        """The same while the socket is full: the rest of what has been begun."""

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


class _Gone:
    """Where a connection was."""

    format: WireFormat
    codec: Codec
    secret = ""

    def transmit(self, data: bytes) -> int:
        """Nobody is there."""
        return 0

    def write(self, data: bytes) -> None:
        """Nobody is there."""

    def finish(self, data: bytes) -> None:
        """Nobody is there."""

    def frame(self, message: bytes) -> bytes:
        """Nothing to be written."""
        return b""

    def close(self, disconnect: Disconnect) -> None:
        """It is."""

    def abort(self) -> None:
        """It is."""

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""


#: The transport of sessions whose connection is lost.
GONE: Transport = _Gone()
