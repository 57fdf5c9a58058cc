"""How often a user may do something, counted in Redis for all nodes together."""

from __future__ import annotations

from service.streams.commands import Commands
from service.streams.keys import Keys
from service.streams.lua import Script

_TAKE = Script.of("service.streams.lua", "rate.lua")


class Rates:
    """Token buckets of users."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def take(self, namespace: str, user: str, rate: float, burst: int) -> float:
        """Take one token.

        Args:
            rate: tokens that come back a second.

        Returns:
            0.0; or, where there is none, the seconds until there is.

        Raises:
            Unavailable, CommandFailed: as `Commands.script`.
        """
        interval = max(1, round(1_000_000 / rate))
        wait = await self._commands.script(_TAKE, [self._keys.rate(namespace, user)], [interval, burst])
        return int(wait) / 1_000_000
