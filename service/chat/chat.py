"""Chat on one node: all that can be done in rooms."""

from __future__ import annotations

from typing import Protocol

from service.chat.messages import Messages
from service.chat.room import Rooms
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.keys import Keys


class Control(Protocol):
    """Tells all nodes."""

    async def send(self, command: dict[str, object]) -> None:
        """Have each node carry out a command.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`.
        """


class Chat:
    """The parts of chat. Nodes keep nothing of rooms in memory: each command asks Redis, in one script.

    Args:
        max_bytes: largest data of a message, where the namespace does not say.
        control: how all nodes learn of bans.
    """

    def __init__(
        self, commands: Commands, keys: Keys, max_bytes: int, control: Control, metrics: Metrics
    ) -> None:
        rooms = Rooms(commands, keys)
        self.messages = Messages(commands, rooms, max_bytes, metrics)
        self.metrics = metrics
