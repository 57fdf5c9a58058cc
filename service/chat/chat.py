"""Chat on one node: all that can be done in rooms."""

from __future__ import annotations

from service.chat.history import History
from service.chat.messages import Messages
from service.chat.moderation import Control, Moderation
from service.chat.room import Rooms
from service.chat.signals import Signals
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.keys import Keys


class Chat:
    """The parts of chat. Nodes keep nothing of rooms in memory: each command asks Redis, in one script.

    Args:
        max_bytes: largest payload that is delivered, and so the largest that may be sent.
        control: how all nodes learn of bans.
    """

    def __init__(
        self, commands: Commands, keys: Keys, max_bytes: int, control: Control, metrics: Metrics
    ) -> None:
        rooms = self.rooms = Rooms(commands, keys)
        self.messages = Messages(commands, rooms, max_bytes, metrics)
        self.signals = Signals(commands, rooms)
        self.history = History(commands, rooms, max_bytes)
        self.moderation = Moderation(commands, keys, rooms, max_bytes, control)
        self.metrics = metrics
