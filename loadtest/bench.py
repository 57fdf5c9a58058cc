"""What a row needs to run: programs, the node's command, how long to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.figures import Figure
from loadtest.lab import Lab
from loadtest.native import Programs


@dataclass(frozen=True)
class Bench:
    """How this run measures; the same for all its rows."""

    programs: Programs
    command: Sequence[str]
    quick: bool = False

    def lab(self, settings: Mapping[str, Mapping[str, Any]] | None = None) -> Lab:
        """A fresh Redis and a fresh node: no row finds what another one left behind."""
        return Lab(self.programs, self.command, settings or {})

    def seconds(self, full: float) -> float:
        """How long to measure what a full run measures for `full` seconds."""
        return full / 3 if self.quick else full


@dataclass(frozen=True)
class Row:
    """One experiment. `run` performs it once, `about` is one line for people."""

    name: str
    about: str
    run: Callable[[Bench], list[Figure]]
