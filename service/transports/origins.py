"""The pages that may connect."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from service.metrics import Metrics
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)


def origin_allowed(origin: str | None, host: str | None, allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin may connect (cross-site WebSocket hijacking).

    Args:
        origin: the Origin header; None where the client is no browser, which is fine.
        host: the Host header.
        allowed: origins that may, "*" for all; where empty, only pages of the same host.
    """
    if origin is None or "*" in allowed:
        return True
    if allowed:
        return origin in allowed
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # no URL at all
        return False


class Origins:
    """Asks the settings, counts, and tells whoever reads the log.

    Args:
        allowed: `server.allowed_origins`.
    """

    def __init__(self, allowed: tuple[str, ...], metrics: Metrics) -> None:
        self._allowed = allowed
        self._metrics = metrics
        self._log_limit = OncePer(60.0)

    @property
    def for_all(self) -> bool:
        """Whether all pages may connect."""
        return "*" in self._allowed

    def allow(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that sends these headers may connect."""
        origin = headers.get("origin")
        if origin_allowed(origin, headers.get("host"), self._allowed):
            return True
        self._metrics.admission_rejected.labels("origin").inc()
        if self._log_limit.allows("origin"):  # one for all: a client may send any
            logger.warning(
                "pages of %.200r may not connect; server.allowed_origins names those that may", origin
            )
        return False
