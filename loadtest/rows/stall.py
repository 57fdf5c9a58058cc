"""What one channel's crowd, or one bad client, does to the others."""

from __future__ import annotations

from loadtest.bench import Bench
from loadtest.costs import peak_rss_bytes, reset_peak_rss, rss_bytes
from loadtest.figures import Figure, Target
from loadtest.lab import Delivery, Lab
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
        done = lab.deliver(crowd, rate=rate, messages=round(rate * bench.seconds(12)), each=subscribers)
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
    seconds = bench.seconds(12)
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


#: Subscribers of the row `slow`, and those of them that stop reading.
SUBSCRIBERS, STUCK = 1000, 100

#: Its load: 50 KB/s to each client, so that who does not read has filled the kernel's buffers after
#: two seconds and the outbox after seven.
SLOW_RATE, SLOW_SIZE = 25, 2000

#: Its outbox bound, in bytes: small, so that clients are closed, come back and stick again meanwhile.
OUTBOX_BYTES, OUTBOX_TOTAL_BYTES = 262_144, 16_777_216


def slow(bench: Bench) -> list[Figure]:
    """100 of 1,000 subscribers do not read: the latency of the others, and the node's memory."""
    seconds = 12.0  # also in a quick run: it takes that long until outboxes are full
    messages = round(SLOW_RATE * seconds)
    limits = {"outbox_bytes": OUTBOX_BYTES, "outbox_total_bytes": OUTBOX_TOTAL_BYTES}
    # The window is part of the baseline, so it is full before the measurement.
    with bench.lab(limits=limits, namespaces={"bench": {"window_size": 2 * SLOW_RATE}}) as lab:
        crowd = lab.crowd(connections=SUBSCRIBERS)

        def deliver(count: int, readers: int) -> Delivery:
            return lab.deliver(
                crowd,
                rate=SLOW_RATE,
                messages=count,
                each=readers,
                size=SLOW_SIZE,
                hostile=readers < SUBSCRIBERS,
            )

        deliver(2 * SLOW_RATE, SUBSCRIBERS)
        calm = deliver(messages // 2, SUBSCRIBERS)
        before = rss_bytes(lab.node.pid)
        reset_peak_rss(lab.node.pid)
        crowd.ask(f"stick {STUCK}", "done")
        stuck = deliver(messages, SUBSCRIBERS - STUCK)
        grown = peak_rss_bytes(lab.node.pid) - before
        returned = crowd.ask("report", "report")["returned"]
    budget = min(OUTBOX_BYTES * STUCK, OUTBOX_TOTAL_BYTES)
    calm_p99, stuck_p99 = calm.latency_ms("p99"), stuck.latency_ms("p99")
    return [
        Figure(
            "p99 of the 900 others / p99 when all read",
            stuck_p99 / calm_p99,
            "",
            Target(1.2),
            f"{stuck_p99:.1f} ms / {calm_p99:.1f} ms, {returned} clients closed and back",
        ),
        Figure(
            "memory growth",
            grown / 2**20,
            "MiB",
            Target(budget / 2**20),
            f"peak, over {before / 2**20:.0f} MiB",
        ),
    ]
