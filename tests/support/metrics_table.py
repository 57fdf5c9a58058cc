"""docs/metrics.md's table, from the instruments: `python -m tests.support.metrics_table` prints it."""

from __future__ import annotations

import sys
from typing import cast

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import Children, Metrics


def render() -> str:
    """A line of a Markdown table for each instrument."""
    instruments = vars(Metrics()).values()
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for instrument in instruments:
        found = instrument.metric if isinstance(instrument, Children) else instrument
        if isinstance(found, MetricWrapperBase):
            name = found._name + ("_total" if isinstance(found, Counter) else "")
            labels = ", ".join(f"`{label}`" for label in cast(tuple[str, ...], found._labelnames))
            lines.append(f"| `{name}` | {found._type} | {labels} | {found._documentation} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
