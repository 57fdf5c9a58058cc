"""Commands to all nodes, carried out on the sessions of this one (streams/control.py).

{"command": "disconnect", "user", "client"?, "spared"?, "code"?, "reason"?}
{"command": "unsubscribe", "user", "channel", "client"?}
{"command": "subscribe", "user", "channel", "client"?, "info"?, "data"?}
{"command": "refresh", "user", "client"?, "expired"?, "expire_at"?}
{"command": "revoke", "user", "before_ms"}
{"command": "ban", "channel", "user", "until_ms"}       0: no longer
{"command": "forget", "channel"}                         its history was removed
{"command": "report", "to", "pattern"?}
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import orjson

from service.errors import EXPIRED, FORCED, FORCED_UNSUBSCRIBE, INVALID_TOKEN, Disconnect
from service.identity.permissions import moderates
from service.session.bans import Bans
from service.session.users import Session, Users

logger = logging.getLogger(__name__)

#: What a subscription brings, as JSON.
_PARTS = ("info", "data")


class Outside(Protocol):
    """What takes more than a word to a session (session/outside.py)."""

    def subscribe(self, session: Session, name: str, info: bytes | None, data: bytes | None) -> None:
        """Subscribe a session to a channel, unless it is."""

    def stop(self, session: Session, name: str) -> None:
        """A subscription that is under way shall not come about."""

    def expire(self, session: Session, at: float) -> None:
        """A session ends then, and not when its token says."""

    def report(self, to: str, pattern: str | None) -> None:
        """Tell somebody how this node is, and which channels of a pattern it has."""

    def forget(self, name: str) -> None:
        """What a channel's stream held was removed."""


class Orders:
    """Carries them out."""

    def __init__(self, users: Users, bans: Bans, outside: Outside) -> None:
        self._users = users
        self._bans = bans
        self._outside = outside

    def carry_out(self, command: dict[str, Any]) -> str:
        """One command; returns what it is counted as."""
        match command:
            case {"command": "disconnect", "user": str(user)}:
                self._disconnect(user, command)
                return "disconnect"
            case {"command": "unsubscribe", "user": str(user), "channel": str(channel)}:
                self._unsubscribe(user, channel, command.get("client"))
                return "unsubscribe"
            case {"command": "subscribe", "user": str(user), "channel": str(channel)}:
                info, data = (orjson.dumps(command[part]) if part in command else None for part in _PARTS)
                for session in self._of(user, command.get("client")):
                    self._outside.subscribe(session, channel, info, data)
                return "subscribe"
            case {"command": "refresh", "user": str(user)}:
                self._refresh(user, command)
                return "refresh"
            case {"command": "revoke", "user": str(user), "before_ms": int(before)}:
                self._revoke(user, before)
                return "revoke"
            case {"command": "ban", "channel": str(channel), "user": str(user), "until_ms": int(until)}:
                self._bans.changed(channel, user, until)
                if self._bans.lasts(until):
                    self._ban(user, channel)
                return "ban"
            case {"command": "forget", "channel": str(channel)}:
                self._outside.forget(channel)
                return "forget"
            case {"command": "report", "to": str(to)}:
                self._outside.report(to, command.get("pattern"))
                return "report"
        logger.warning("a command to all nodes that this version does not know: passed over")
        return "unknown"

    def missed(self) -> None:
        """What is known of bans may be outdated."""
        self._bans.forget()

    def _disconnect(self, user: str, command: dict[str, Any]) -> None:
        disconnect = FORCED
        code, reason, client = command.get("code"), command.get("reason"), command.get("client")
        if isinstance(code, int) and isinstance(reason, str):
            disconnect = Disconnect(code, reason)
        spared = command.get("spared", ())
        for session in self._of(user, client):
            if session.id not in spared:
                session.close(disconnect)

    def _unsubscribe(self, user: str, channel: str, client: str | None) -> None:
        for session in self._of(user, client):
            self._outside.stop(session, channel)
            session.take_away(channel, FORCED_UNSUBSCRIBE)

    def _refresh(self, user: str, command: dict[str, Any]) -> None:
        expire_at = command.get("expire_at")
        for session in self._of(user, command.get("client")):
            if command.get("expired"):
                session.close(EXPIRED)
            elif isinstance(expire_at, int):
                self._outside.expire(session, expire_at)

    def _of(self, user: str, client: str | None) -> list[Session]:
        """The sessions of a user, or the one that is meant."""
        return [each for each in self._users.of(user) if client is None or each.id == client]

    def _ban(self, user: str, channel: str) -> None:
        for session in self._users.of(user):
            detail = (session.details or {}).get(channel)
            if not moderates(session.identity, None if detail is None else detail.grant, channel):
                session.take_away(channel, FORCED_UNSUBSCRIBE)

    def _revoke(self, user: str, before_ms: int) -> None:
        for session in self._users.of(user):
            if _is_void(session.identity.issued_at, before_ms):
                session.close(INVALID_TOKEN)
                continue
            for channel, detail in list((session.details or {}).items()):
                if detail.grant is not None and _is_void(detail.grant.issued_at, before_ms):
                    session.take_away(channel, FORCED_UNSUBSCRIBE)


def _is_void(issued_at: float | None, before_ms: int) -> bool:
    return issued_at is None or issued_at * 1000 <= before_ms
