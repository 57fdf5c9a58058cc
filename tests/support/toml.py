"""Settings as a configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml(table: Mapping[str, Any], path: str = "") -> str:
    """Nested dicts as TOML; JSON's scalars and lists of them are TOML's."""
    scalars = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    out = "\n".join(([f"[{path}]"] if path and (scalars or not table) else []) + scalars) + "\n"
    for key, value in table.items():
        if isinstance(value, dict):
            out += toml(value, f"{path}.{key}" if path else key)
    return out
