"""Commands to all nodes, carried out on the sessions of this one (streams/control.py).

{"command": "disconnect", "user", "client"?, "code"?, "reason"?}
{"command": "unsubscribe", "user", "channel"}
{"command": "revoke", "user", "before_ms"}
{"command": "ban", "channel", "user", "until_ms"}       0: no longer
"""

from __future__ import annotations

import logging
from typing import Any

from service.errors import FORCED, FORCED_UNSUBSCRIBE, INVALID_TOKEN, Disconnect
from service.identity.permissions import moderates
from service.session.bans import Bans
from service.session.users import Users

logger = logging.getLogger(__name__)


class Orders:
    """Carries them out."""

    def __init__(self, users: Users, bans: Bans) -> None:
        self._users = users
        self._bans = bans

    def carry_out(self, command: dict[str, Any]) -> str:
        """One command; returns what it is counted as."""
        match command:
            case {"command": "disconnect", "user": str(user)}:
                self._disconnect(user, command)
                return "disconnect"
            case {"command": "unsubscribe", "user": str(user), "channel": str(channel)}:
                self._unsubscribe(user, channel)
                return "unsubscribe"
            case {"command": "revoke", "user": str(user), "before_ms": int(before)}:
                self._revoke(user, before)
                return "revoke"
            case {"command": "ban", "channel": str(channel), "user": str(user), "until_ms": int(until)}:
                self._bans.changed(channel, user, until)
                if self._bans.lasts(until):
                    self._ban(user, channel)
                return "ban"
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
        for session in self._users.of(user):
            if client is None or session.id == client:
                session.close(disconnect)

    def _unsubscribe(self, user: str, channel: str) -> None:
        for session in self._users.of(user):
            session.take_away(channel, FORCED_UNSUBSCRIBE)

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
