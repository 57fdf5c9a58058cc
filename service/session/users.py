"""The sessions of this node by user, for what concerns all of one user's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from service.errors import Disconnect, Unsubscribed
from service.identity.identity import Grant, Identity


class Detail(Protocol):
    """What is particular about a subscription."""

    @property
    def grant(self) -> Grant | None:
        """Of the subscription token it was made with."""


class Session(Protocol):
    """What can be done to a session from outside."""

    id: str
    identity: Identity

    @property
    def details(self) -> Mapping[str, Detail] | None:
        """By channel, where a subscription has something particular."""

    def close(self, disconnect: Disconnect) -> None:
        """End the session."""

    def take_away(self, channel: str, why: Unsubscribed) -> None:
        """End a subscription; fine if there is none."""


class Users:
    """Sessions that have shown who they are."""

    def __init__(self) -> None:
        self._sessions: dict[str, set[Session]] = {}

    def add(self, session: Session) -> None:
        """It is connected."""
        if user := session.identity.user:
            self._sessions.setdefault(user, set()).add(session)

    def remove(self, session: Session) -> None:
        """It is gone; fine if it was never there."""
        user = session.identity.user
        sessions = self._sessions.get(user)
        if sessions is not None:
            sessions.discard(session)
            if not sessions:
                del self._sessions[user]

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, user: str) -> list[Session]:
        """All sessions of one user on this node."""
        return list(self._sessions.get(user, ()))
