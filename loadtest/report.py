"""The table for people, the JSON for everything else."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.figures import Figure
from service.streams.embedded import find_server

#: Where results are kept, one file a run.
RESULTS = Path(__file__).parent / "results"

#: Packages whose versions decide speed.
PACKAGES = ("uvloop", "uvicorn", "websockets", "hiredis", "redis", "orjson")


def table(results: Iterable[tuple[str, list[Figure]]]) -> Table:
    """All figures, one line each."""
    out = Table(title="Streamgate, measured here", title_justify="left", pad_edge=False)
    for heading in ("row", "what was measured", "figure", "target", ""):
        out.add_column(heading, justify="right" if heading in ("figure", "target") else "left")
    for name, figures in results:
        for first, figure in zip([name] + [""] * len(figures), figures, strict=False):
            what = Text(figure.name)
            note = [figure.note] if figure.note else []
            if len(figure.runs) > 1:
                note.append(f"runs {figure.text(min(figure.runs))} … {figure.text(max(figure.runs))}")
            if note:
                what.append("\n" + "; ".join(note), style="dim")
            target = f"{figure.target.sense} {figure.text(figure.target.limit)}" if figure.target else ""
            verdict = {
                True: Text("reached", style="green"),
                False: Text("missed", style="bold red"),
                None: Text(""),
            }[figure.reached]
            out.add_row(first, what, figure.text(), target, verdict)
        out.add_section()
    return out


def summary(results: Iterable[tuple[str, list[Figure]]]) -> str:
    """One line: how many targets are reached."""
    verdicts = [figure.reached for _, figures in results for figure in figures if figure.target]
    return f"{sum(bool(verdict) for verdict in verdicts)} of {len(verdicts)} targets reached"


def write_json(
    path: Path | None, results: Iterable[tuple[str, list[Figure]]], options: dict[str, Any], seconds: float
) -> Path:
    """Write a run to `path`, or to a new file among the results. Returns the path."""
    if path is None:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    rows = [{"row": name, "figures": [_figure(figure) for figure in figures]} for name, figures in results]
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "commit": _said("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "machine": machine(),
        "options": options,
        "rows": rows,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "target": figure.target and f"{figure.target.sense} {figure.target.limit:g}",
        "reached": figure.reached,
        "note": figure.note,
        "runs": figure.runs,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis": _said(find_server(), "--version"),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def warn_of_others(console: Console, cores: float) -> None:
    """Say so where something else kept the machine busy meanwhile: the figures are then too bad."""
    if cores > 0.1:
        text = f"Other processes used {cores:.2f} of {os.cpu_count()} cores meanwhile"
        console.print(f"[yellow]{text}: expect worse figures, latencies above all.[/]", highlight=False)
