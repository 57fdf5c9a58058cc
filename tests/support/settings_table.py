"""docs/configuration.md's tables, from the models: `python -m tests.support.settings_table` prints them."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.channels import Namespace
from service.config import Settings


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default()
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return "[]" if isinstance(value, tuple | frozenset) else f"{value}"


def rows(model: type[BaseModel]) -> list[str]:
    """One line of a Markdown table for each setting."""
    return [
        f"| `{name}` | `{_default(field)}` | {field.description} |"
        for name, field in model.model_fields.items()
    ]


def render() -> str:
    """All tables."""
    parts = []
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    for section, model in (sections | {"namespaces.NAME": Namespace}).items():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue  # no table: it is told where namespaces are
        parts += [f"### `[{section}]`", "", "| key | default | meaning |", "| --- | --- | --- |"]
        parts += [*rows(model), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(render())
