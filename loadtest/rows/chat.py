"""What a conversation costs: clients publish, rooms read."""

from __future__ import annotations

from loadtest.bench import Bench
from loadtest.figures import Figure, Target
from loadtest.lab import Delivery

#: Rooms, and members of each; every client is in one.
ROOMS, MEMBERS = 500, 10

#: Messages per second that should go through, and that are offered: more, so that what goes through is what
#: the node can do.
RATE, OFFERED = 5000, 6500

#: As shipped, but that clients without a token may talk, too.
CHAT = {
    "mode": "log",
    "history_size": 10_000,
    "history_ttl": 7 * 86_400,
    "chat": True,
    "publish": "anonymous",
}

#: Microseconds between two looks of the clients at their sockets; see fanout.py.
REST_US = 500


def chat(bench: Bench) -> list[Figure]:
    """5,000 clients in 500 rooms, each says something once a second."""
    with bench.lab({"namespaces.chat": CHAT}) as lab:
        crowd = lab.crowd(connections=ROOMS * MEMBERS, channels=ROOMS, prefix="chat:r", rest_us=REST_US)

        def talk(rate: int, seconds: float) -> Delivery:
            return lab.talk(crowd, rate=rate, messages=round(rate * seconds), members=MEMBERS)

        talk(RATE // 5, 3)  # warms up; the presence of those who have come is written meanwhile
        half = talk(RATE // 2, bench.seconds(9))
        full = talk(OFFERED, bench.seconds(9))
    p50, p99, longest = _latencies(half)
    busy_p50, busy_p99, _ = _latencies(full)
    return [
        Figure("messages to everyone", full.messages / full.seconds, "/s", Target(RATE, "≥"), _cost(full)),
        Figure(
            "latency p50, publish to everyone",
            p50,
            "ms",
            Target(5),
            f"at {RATE // 2:,} messages/s: {_cost(half)}",
        ),
        Figure(
            "latency p99, publish to everyone",
            p99,
            "ms",
            Target(30),
            f"max {longest:.1f} ms; at {OFFERED:,} messages/s p50 {busy_p50:.1f} ms, p99 {busy_p99:.1f} ms",
        ),
    ]


def _latencies(done: Delivery) -> tuple[float, ...]:
    return tuple(done.latency_ms(percentile, "everyone") for percentile in ("p50", "p99", "max"))


def _cost(done: Delivery) -> str:
    node, redis = done.cores
    each = done.node_cpu_ns / 1000 / done.messages
    return (
        f"node {each:.0f} µs a message, Redis {done.redis_cpu_us:.0f} µs; {node:.0%} + {redis:.0%} of a core"
    )
