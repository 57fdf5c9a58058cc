"""A rate that allows bursts."""

from __future__ import annotations


class TokenBucket:
    """Allows `burst` at once and `rate` a second.

    Args:
        now: seconds by the caller's clock, which must not go back.
    """

    __slots__ = ("_at", "_tokens")

    def __init__(self, burst: float, now: float) -> None:
        self._tokens = burst
        self._at = now

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(burst, self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
