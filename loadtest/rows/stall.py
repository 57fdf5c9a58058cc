"""What one channel's crowd, or one bad client, does to the others."""

from __future__ import annotations

import statistics

from loadtest.bench import Bench
from loadtest.costs import peak_rss_bytes, reset_peak_rss, rss_bytes
from loadtest.figures import Figure, Target
from loadtest.lab import Lab
from loadtest.talker import Talker

#: Lateness of a timer on the node's event loop; a gauge that begins anew with every scrape.
LAG_METRIC = "streamgate_event_loop_lag_max_seconds"

#: The longest delay of the event loop that is allowed, in milliseconds.
LONGEST_DELAY = Target(20)


def loop(bench: Bench) -> list[Figure]:
    """10,000 subscribers of one channel: the longest delay of the event loop while it fans out."""
    subscribers, rate = 10_000, 5
    with bench.lab() as lab:
        crowd = lab.crowd(connections=subscribers)
        lab.deliver(crowd, rate=rate, messages=rate, each=subscribers)  # warms up
        probe = _probe(lab)
        done = lab.deliver(crowd, rate=rate, messages=round(rate * bench.seconds(10)), each=subscribers)
        return [
            _longest_delay(lab, probe),
            Figure(
                "latency p99, all 10,000",
                done.latency_ms("p99"),
                "ms",
                note=f"at {rate} messages/s; the node spends {done.node_cpu_us:.2f} µs a delivery",
            ),
        ]


def flood(bench: Bench) -> list[Figure]:
    """One client sends tiny frames at full speed: the delay that the 999 others see."""
    others, rate = 999, 20
    seconds = bench.seconds(9)
    with bench.lab() as lab:
        crowd = lab.crowd(connections=others)
        lab.deliver(crowd, rate=rate, messages=rate, each=others)  # warms up
        calm = lab.deliver(crowd, rate=rate, messages=round(rate * seconds / 2), each=others)
        # A process of its own: whatever it spends on flooding must not delay the reading of the others.
        flooder = lab.crowd(connections=1)
        probe = _probe(lab)
        flooder.ask("reset", "reset")
        flooder.ask("flood 1", "done")
        busy = lab.deliver(crowd, rate=rate, messages=round(rate * seconds), each=others)
        sent = flooder.ask("report", "report")
        frames = sent["flood_bytes"] // 8
        note = f"without {calm.latency_ms('p99'):.1f} ms; {frames:,} tiny frames sent, {_closings(sent)}"
        return [
            _longest_delay(lab, probe),
            Figure("latency p99, the 999 others", busy.latency_ms("p99"), "ms", note=note),
        ]


def _probe(lab: Lab) -> Talker:
    probe = lab.crowd(connections=1, each=0, probe_ms=10)
    probe.ask("reset", "reset")
    lab.node.metric(LAG_METRIC)  # forgets how long connecting the crowd took
    return probe


def _longest_delay(lab: Lab, probe: Talker) -> Figure:
    lag = lab.node.metric(LAG_METRIC)
    echo = probe.ask("report", "report")["echo_us"]
    outside = f"from outside, by echo: p50 {echo['p50'] / 1000:.1f} ms, p99 {echo['p99'] / 1000:.1f} ms"
    name = "longest delay of the event loop"
    if lag is None:  # a node that does not tell; the echo holds the readers' own delays too
        return Figure(
            name, echo["max"] / 1000, "ms", LONGEST_DELAY, f"{outside}; the node has no {LAG_METRIC}"
        )
    return Figure(name, lag * 1000, "ms", LONGEST_DELAY, f"{outside}, max {echo['max'] / 1000:.1f} ms")


def _closings(report: dict[str, dict[str, int]]) -> str:
    closed = {code: count for code, count in report["closed"].items() if code != "0"}
    return "closed " + (", ".join(f"{code}: {count} times" for code, count in closed.items()) or "never")


#: Subscribers of the row `slow` that read, and those that stop reading.
READERS, STUCK = 900, 100

#: Its load: 50 KB/s to each client, so that who does not read has filled the kernel's buffers after
#: two seconds and the outbox after seven.
SLOW_RATE, SLOW_SIZE = 50, 1000

#: Its outbox bounds, in bytes: small, so that clients are closed, come back and stick again meanwhile.
OUTBOX_BYTES, OUTBOX_TOTAL_BYTES = 262_144, 16_777_216

#: Sessions that the node closed because they did not read.
SLOW_METRIC = "streamgate_slow_disconnects_total"


def slow(bench: Bench) -> list[Figure]:
    """100 of 1,000 subscribers do not read: the latency of the others, and the node's memory."""
    limits = {"outbox_bytes": OUTBOX_BYTES, "outbox_total_bytes": OUTBOX_TOTAL_BYTES}
    calm: list[float] = []
    stuck: list[float] = []
    # The window is part of the baseline, so it is full before the measurement.
    with bench.lab({"limits": limits, "namespaces.bench": {"window_size": SLOW_RATE}}) as lab:
        readers = lab.crowd(connections=READERS)

        def p99(seconds: float) -> float:
            messages = round(SLOW_RATE * seconds)
            done = lab.deliver(readers, rate=SLOW_RATE, messages=messages, each=READERS, size=SLOW_SIZE)
            return done.latency_ms("p99")

        before = 0
        for turn in range(1 if bench.quick else 2):
            with lab.crowd(connections=STUCK) as others:
                p99(2)
                calm.append(p99(bench.seconds(6)))
                if turn == 0:
                    before = rss_bytes(lab.node.pid)
                    reset_peak_rss(lab.node.pid)
                others.ask(f"stick {STUCK}", "done")
                stuck.append(p99(12))  # also in a quick run: until outboxes are full and clients are back
        grown = peak_rss_bytes(lab.node.pid) - before
        closed = lab.node.metric(SLOW_METRIC) or 0
    budget = min(OUTBOX_BYTES * STUCK, OUTBOX_TOTAL_BYTES)
    calm_ms, stuck_ms = statistics.mean(calm), statistics.mean(stuck)
    note = f"{stuck_ms:.1f} ms / {calm_ms:.1f} ms; closed as slow: {closed:.0f}"
    return [
        Figure("p99 of the 900 others / p99 when all read", stuck_ms / calm_ms, "", Target(1.2), note),
        Figure(
            "memory growth",
            grown / 2**20,
            "MiB",
            Target(budget / 2**20),
            f"peak, over {before / 2**20:.0f} MiB",
        ),
    ]
