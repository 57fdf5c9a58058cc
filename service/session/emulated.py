"""Sessions whose clients send by requests of their own, which may land on any node."""

from __future__ import annotations

from typing import Any, Protocol


class Inbox(Protocol):
    """Who takes a session's commands."""

    def receive(self, message: bytes, *, relayed: bool = False) -> None:
        """Commands, one a line; `relayed` by another node."""

    def relayed_missed(self) -> None:
        """Commands that came by other nodes may be lost."""


class Emulated:
    """The sessions of this node by their secrets; what a `Mailbox` brings is for them."""

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}

    def add(self, secret: str, inbox: Inbox) -> None:
        """There is one more."""
        self._inboxes[secret] = inbox

    def remove(self, secret: str) -> None:
        """It is gone; fine if it was never there."""
        self._inboxes.pop(secret, None)

    def __contains__(self, secret: str) -> bool:
        return secret in self._inboxes

    def give(self, secret: str, message: bytes) -> None:
        """Commands that came to this node; fine if there is no such session."""
        inbox = self._inboxes.get(secret)
        if inbox is not None:
            inbox.receive(message)

    # The mailbox's Receiver

    def mail(self, letter: dict[str, Any]) -> None:
        """Commands that came by another node. A session that is gone has told its client already."""
        match letter:
            case {"session": str(secret), "data": str(data)}:
                inbox = self._inboxes.get(secret)
                if inbox is not None:
                    inbox.receive(data.encode(), relayed=True)

    def missed(self) -> None:
        """Mail may be lost."""
        for inbox in list(self._inboxes.values()):
            inbox.relayed_missed()
