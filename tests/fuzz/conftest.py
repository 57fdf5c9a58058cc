"""Profiles of the property tests: a quick one by default, `--hypothesis-profile=long` for `make fuzz`."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No example depends on the machine's speed or on what an earlier run found; nothing is left on disk.
settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    max_examples=2000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Many examples take their time, which is no sign of a test that hangs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))
