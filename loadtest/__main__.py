"""`python -m loadtest`: measures, prints a table, writes JSON."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtest import native, report
from loadtest.bench import Bench, Row
from loadtest.costs import machine_cpu_seconds, own_cpu_seconds, raise_open_files
from loadtest.errors import BenchError
from loadtest.figures import Figure, median
from loadtest.node import DEFAULT_COMMAND
from loadtest.rows import ROWS
from service.errors import StreamgateError

#: Open files of the largest row: 10,000 connections, and what a node has open besides.
OPEN_FILES = 10_200

EPILOG = """\
The load and the node share the machine, so let it do nothing else meanwhile. Where a figure is a
multiple of a bare send(), that reference is measured in the same run, by a C program that is built
here. The exit status is 0 when everything could be measured, whether or not targets are reached."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns the exit status."""
    options = _parse(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # a log file has no width of its own
    if options.list:
        for row in ROWS:
            console.print(f"[bold]{row.name:<10}[/]{row.about}", highlight=False)
        return 0
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    repeat = options.repeat or (1 if options.quick else 3)
    # Ended by a signal or by Ctrl-C, everything that was started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        raise_open_files(OPEN_FILES)
        bench = Bench(native.build(), shlex.split(options.server) or DEFAULT_COMMAND, options.quick)
        began, others_cpu = time.monotonic(), machine_cpu_seconds() - own_cpu_seconds()
        results, failures = _measure(console, bench, rows, repeat)
    except (BenchError, StreamgateError) as exc:
        console.print(f"[bold red]error:[/] {exc}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    seconds = time.monotonic() - began
    if not results:
        return 1
    foreign = (machine_cpu_seconds() - own_cpu_seconds() - others_cpu) / seconds
    console.print(report.table(results))
    report.warn_of_others(console, foreign)
    what = {
        "foreign_load_cores": round(foreign, 3),
        "only": options.only,
        "quick": options.quick,
        "repeat": repeat,
        "failures": failures,
    }
    path = report.write_json(options.json, results, what, seconds)
    console.print(f"{report.summary(results)}, {seconds:.0f} s; written to {path}", soft_wrap=True)
    return 1 if failures else 0


def _measure(
    console: Console, bench: Bench, rows: Sequence[Row], repeat: int
) -> tuple[list[tuple[str, list[Figure]]], dict[str, str]]:
    """Run the rows. One that cannot be measured is told of at once and does not stop the others."""
    results: list[tuple[str, list[Figure]]] = []
    failures: dict[str, str] = {}
    with console.status("") as status:
        for number, row in enumerate(rows, 1):
            runs: list[list[Figure]] = []
            try:
                for run in range(repeat):
                    turn = f", run {run + 1} of {repeat}" if repeat > 1 else ""
                    status.update(f"{number} of {len(rows)} · {row.about}{turn}")
                    runs.append(row.run(bench))
            except (BenchError, StreamgateError) as exc:
                failures[row.name] = str(exc)
                console.print(
                    f"[bold red]{row.name}: cannot be measured:[/] {exc}", highlight=False, soft_wrap=True
                )
            if runs:
                results.append((row.name, median(runs)))
                if not console.is_terminal:
                    console.print(
                        f"{row.name}: " + ", ".join(f"{f.name} {f.text()}" for f in results[-1][1]),
                        soft_wrap=True,
                    )
    return results, failures


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="Measure what Streamgate costs and compare it with its targets.",
        epilog=EPILOG,
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=names, help="only these rows; see --list")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    parser.add_argument("--quick", action="store_true", help="shorter measurements, once: under 2 minutes")
    parser.add_argument(
        "--repeat", type=_positive, metavar="N", help="run every row N times and take medians (3)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the results there (loadtest/results/…)"
    )
    parser.add_argument(
        "--server",
        default="",
        metavar="COMMAND",
        help="start the node so, to compare with another checkout; {config} is the path of its configuration",
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
