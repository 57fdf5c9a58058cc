"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from service.hub import outbox as outbox_module
from service.session import session as session_module
from service.session import wheel as wheel_module
from tests.unit.fakes.clock import LoopTime


@pytest.fixture
def loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions, their deadlines and their outboxes go by the clock of the running loop."""
    for module in (session_module, wheel_module, outbox_module):
        monkeypatch.setattr(module, "time", LoopTime)
