"""What a connection, a followed channel and an idle message cost."""

from __future__ import annotations

from loadtest.bench import Bench
from loadtest.costs import cpu_ns, rss_bytes
from loadtest.figures import Figure, Target
from loadtest.lab import Delivery


def memory(bench: Bench) -> list[Figure]:
    """Resident memory of an idle, subscribed connection."""
    connections = 5000
    with bench.lab() as lab:
        lab.crowd(connections=20)  # what the first clients load and cache belongs to the node
        before = rss_bytes(lab.node.pid)
        lab.crowd(connections=connections)
        grown = rss_bytes(lab.node.pid) - before
    note = f"{before / 2**20:.0f} MiB before, {(before + grown) / 2**20:.0f} MiB with {connections:,}"
    return [Figure("memory per idle connection", grown / 1024 / connections, "KiB", Target(4), note)]


def redis(bench: Bench) -> list[Figure]:
    """CPU of Redis per message, the XADD included, with many and with few followed channels."""
    few, many = _followed(bench, 100), _followed(bench, 10_000)
    return [
        Figure(
            "CPU of Redis per message, 10,000 / 100",
            many.redis_cpu_us / few.redis_cpu_us,
            "",
            Target(3),
            f"{many.redis_cpu_us:.0f} µs / {few.redis_cpu_us:.0f} µs, XADD included",
        )
    ]


def _followed(bench: Bench, channels: int) -> Delivery:
    each, rate = 100, 200
    with bench.lab() as lab:
        crowd = lab.crowd(connections=channels // each, each=each, channels=channels)
        # The first entry of every stream costs more than the others: it makes the stream.
        lab.deliver(crowd, rate=5000, messages=channels, each=1, channels=channels)
        # A multiple of the sweep of all followed channels, which is once in 5 s.
        messages = round(rate * (5 if bench.quick else 10))
        return lab.deliver(crowd, rate=rate, messages=messages, each=1, channels=channels)


def latency(bench: Bench) -> list[Figure]:
    """From XADD to the client while the machine has nothing else to do."""
    rate, subscribers = 200, 10
    with bench.lab() as lab:
        crowd = lab.crowd(connections=subscribers)
        lab.deliver(crowd, rate=rate, messages=rate, each=subscribers)  # warms up
        done = lab.deliver(crowd, rate=rate, messages=round(rate * bench.seconds(12)), each=subscribers)
    note = f"max {done.latency_ms('max'):.1f} ms"
    return [
        Figure("latency p50", done.latency_ms("p50"), "ms", Target(1.5), "XADD to client, idle"),
        Figure("latency p99", done.latency_ms("p99"), "ms", Target(5), note),
    ]


def connect(bench: Bench) -> list[Figure]:
    """CPU of the node for a handshake, a connect and a subscribe, 100 clients at a time."""
    connections, at_a_time = 3000, 100
    with bench.lab() as lab:
        lab.crowd(connections=200, concurrency=at_a_time)  # warms up
        before = cpu_ns(lab.node.pid)
        crowd = lab.crowd(connections=connections, concurrency=at_a_time)
        spent_us = (cpu_ns(lab.node.pid) - before) / 1000 / connections
        alive = crowd.ask("report", "report")["alive"]
    return [
        Figure(
            "CPU per connect + subscribe",
            spent_us,
            "µs",
            Target(450),
            f"{alive:,} clients, {at_a_time} at a time",
        )
    ]
