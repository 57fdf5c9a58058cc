"""docs/configuration.md tells of every setting, with its default."""

from __future__ import annotations

from pathlib import Path

from tests.support import settings_table

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_in_the_documentation() -> None:
    """The tables are those that the models render (`python -m tests.support.settings_table`)."""
    assert settings_table.render() in (DOCS / "configuration.md").read_text()
