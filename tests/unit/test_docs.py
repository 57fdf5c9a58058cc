"""The documentation tells of every setting and of every metric."""

from __future__ import annotations

from pathlib import Path

from tests.support import metrics_table, settings_table

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_in_the_documentation() -> None:
    """The tables are those that the models render (`python -m tests.support.settings_table`)."""
    assert settings_table.render() in (DOCS / "configuration.md").read_text()


def test_every_metric_is_in_the_documentation() -> None:
    """The table is that of the instruments (`python -m tests.support.metrics_table`)."""
    assert metrics_table.render() in (DOCS / "metrics.md").read_text()
