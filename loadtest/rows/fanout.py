"""What a delivery costs, as a multiple of a bare send()."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from loadtest.bench import Bench
from loadtest.figures import Figure, Target
from loadtest.lab import Delivery, Lab

#: Subscribers of both rows, and sockets of the reference.
SUBSCRIBERS = 1000

#: Messages per second to one channel: half of a core on both sides, so that neither queues.
RATE = 50

#: Microseconds between two looks of the readers at their sockets, in the rows and in the reference. A
#: reader that waits on its sockets is woken by the very write, in the writer's time; how often depends
#: on who happens to be faster, and made ratios from 1.2 to 2.1 of the same two programs.
REST_US = 500


def delivery(bench: Bench) -> list[Figure]:
    """One channel, 1,000 subscribers: the node's CPU per delivery against a bare send()."""
    turns, seconds = 3, bench.seconds(2.5)
    node: list[float] = []
    bare: list[float] = []
    p99: list[float] = []
    with bench.lab() as lab:
        crowd = lab.crowd(connections=SUBSCRIBERS, rest_us=REST_US)
        lab.deliver(crowd, rate=RATE, messages=RATE, each=SUBSCRIBERS)  # warms up
        # The speed of a shared machine drifts, so the two are measured in turns.
        for _ in range(turns):
            done = lab.deliver(crowd, rate=RATE, messages=round(RATE * seconds), each=SUBSCRIBERS)
            node.append(done.node_cpu_us)
            p99.append(done.latency_ms("p99"))
            bare.append(_bare(lab, done.wire_bytes, seconds))
    node_us, bare_us = statistics.median(node), statistics.median(bare)
    return [
        Figure(
            "CPU per delivery / bare send()",
            node_us / bare_us,
            "",
            Target(1.25),
            f"{node_us:.2f} µs / {bare_us:.2f} µs, {done.wire_bytes:.0f} B on the wire",
        ),
        Figure("latency p99, all 1,000", statistics.median(p99), "ms", note=f"at {RATE} messages/s"),
    ]


def _bare(lab: Lab, size: float, seconds: float) -> float:
    return lab.bare_send_us(connections=SUBSCRIBERS, size=size, rate=RATE, seconds=seconds, rest_us=REST_US)


#: Channels of the row `batch`, and how many of them a client subscribes to.
CHANNELS, EACH = 100, 20

#: Milliseconds between two reads of the tail, where there is a coalescing interval.
READ_INTERVAL_MS = 10

#: XADDs per second: each reaches 200 clients, so that is 220,000 deliveries per second.
BATCH_RATE = 1100


def batch(bench: Bench) -> list[Figure]:
    """1,000 subscribers of 20 of 100 channels: CPU per message with and without a coalescing interval."""
    # What is gathered for 50 ms need not be read at once.
    gathered, bare_us = _many_channels(bench, "gather:c", {"redis": {"read_interval_ms": READ_INTERVAL_MS}})
    plain, other_bare_us = _many_channels(bench, "bench:c")
    bare_us = (bare_us + other_bare_us) / 2
    ratio = gathered.node_cpu_us / bare_us
    plain_ratio = plain.node_cpu_us / bare_us
    return [
        Figure(
            "50 ms: CPU per message / bare send()",
            ratio,
            "",
            Target(0.25),
            f"{gathered.node_cpu_us:.2f} µs / {bare_us:.2f} µs",
        ),
        _throughput("50 ms: delivered", gathered, Target(200_000, "≥")),
        Figure("50 ms: latency p99", gathered.latency_ms("p99"), "ms", Target(100), _spread(gathered)),
        Figure(
            "no interval: CPU per message / bare send()",
            plain_ratio,
            "",
            note=f"{plain.node_cpu_us:.2f} µs / {bare_us:.2f} µs",
        ),
        _throughput("no interval: delivered", plain, None),
        Figure("no interval: latency p99", plain.latency_ms("p99"), "ms", note=_spread(plain)),
    ]


def _many_channels(
    bench: Bench, prefix: str, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Delivery, float]:
    where: dict[str, int | str] = {"channels": CHANNELS, "prefix": prefix}
    each = SUBSCRIBERS * EACH / CHANNELS
    with bench.lab(settings) as lab:
        crowd = lab.crowd(connections=SUBSCRIBERS, each=EACH, scatter=1, rest_us=REST_US, **where)
        lab.deliver(crowd, rate=BATCH_RATE, messages=BATCH_RATE, each=each, channels=CHANNELS, prefix=prefix)
        messages = round(BATCH_RATE * bench.seconds(8) / CHANNELS) * CHANNELS
        done = lab.deliver(
            crowd, rate=BATCH_RATE, messages=messages, each=each, channels=CHANNELS, prefix=prefix
        )
        bare_us = _bare(lab, 200, bench.seconds(2))
    return done, bare_us


def _throughput(name: str, done: Delivery, target: Target | None) -> Figure:
    share = done.node_cpu_ns / 1e9 / done.seconds
    note = f"node {share:.0%} of a core"
    return Figure(name, done.deliveries / done.seconds, "/s", target, note)


def _spread(done: Delivery) -> str:
    return f"p50 {done.latency_ms('p50'):.1f} ms, max {done.latency_ms('max'):.1f} ms"
