"""One experiment: a Redis, a node and their load, all on loopback, all gone at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from loadtest.costs import cpu_ns
from loadtest.errors import BenchError
from loadtest.native import Programs
from loadtest.node import Node
from loadtest.talker import Talker
from service.streams.embedded import EmbeddedRedis

#: Seconds for a crowd to connect and subscribe.
CONNECT_TIMEOUT = 90.0

#: Seconds for the last deliveries to arrive after the producer has ended.
DELIVERY_TIMEOUT = 30.0


@dataclass(frozen=True)
class Delivery:
    """What it cost to bring messages to all their subscribers, from XADD or `publish` to the last client."""

    messages: int
    deliveries: int
    seconds: float
    node_cpu_ns: int
    redis_cpu_ns: int
    crowd: dict[str, Any]

    @property
    def node_cpu_us(self) -> float:
        """The node's CPU per delivery, in microseconds."""
        return self.node_cpu_ns / 1000 / self.deliveries

    @property
    def redis_cpu_us(self) -> float:
        """The CPU of Redis per message, its XADD included, in microseconds."""
        return self.redis_cpu_ns / 1000 / self.messages

    @property
    def cores(self) -> tuple[float, float]:
        """Shares of a core that the node and Redis were busy."""
        return self.node_cpu_ns / 1e9 / self.seconds, self.redis_cpu_ns / 1e9 / self.seconds

    @property
    def wire_bytes(self) -> float:
        """Bytes on the wire per delivery."""
        return float(self.crowd["bytes"]) / self.deliveries

    def latency_ms(self, percentile: str, to: str = "latency") -> float:
        """A percentile of the latency: p50, p90, p99, p999 or max.

        Args:
            to: "latency": to each client; "everyone": to the last reader of each message of a talk.
        """
        return float(self.crowd[f"{to}_us"][percentile]) / 1000


class Lab:
    """The processes of one experiment; leaving the `with` block ends them all.

    Args:
        programs: the load side.
        command: the node's command line, see `Node`.
        settings: of the node, see `Node`.
    """

    def __init__(
        self,
        programs: Programs,
        command: Sequence[str],
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._programs = programs
        self._command = command
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(EmbeddedRedis(port=0))
            self.node = stack.enter_context(Node(self._command, self.redis.url, self._settings))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def crowd(self, **options: int | str) -> Talker:
        """A crowd of clients, all subscribed; see crowd.c for the options.

        Raises:
            BenchError: the node refused somebody.
        """
        crowd = self._stack.enter_context(Talker(self._programs.crowd, {"port": self.node.port, **options}))
        ready = crowd.hear("ready", CONNECT_TIMEOUT)
        if ready["refused"]:
            raise BenchError(
                f"{ready['refused']} clients refused: {ready['problem']} {self.node.last_words()}"
            )
        return crowd

    def deliver(
        self,
        crowd: Talker,
        *,
        rate: int,
        messages: int,
        each: float,
        channels: int = 1,
        prefix: str = "bench:c",
        size: int = 130,
    ) -> Delivery:
        """Produce by plain XADD and wait until all of it has arrived.

        Args:
            crowd: counts and times the deliveries.
            rate: messages per second.
            messages: how many; for several channels a multiple of their number.
            each: subscribers that one message reaches, on average over the channels.
            channels, prefix: where to.
            size: bytes of a payload.

        Raises:
            BenchError: something did not arrive, or arrived twice, or a client was closed.
        """
        limit = messages / rate + DELIVERY_TIMEOUT
        where: dict[str, int | str] = {"port": self.redis.port or 0, "prefix": prefix, "channels": channels}

        def produce() -> None:
            options = {**where, "rate": rate, "count": messages, "bytes": size}
            with Talker(self._programs.feed, options) as feed:
                feed.hear("done", limit)

        return self._delivered(crowd, messages, round(messages * each), limit, produce)

    def talk(self, crowd: Talker, *, rate: int, messages: int, members: int) -> Delivery:
        """Have the clients publish, one after the other, and wait until all of it has arrived.

        Args:
            crowd: publishes, counts and times.
            rate: messages per second, in all.
            messages: how many.
            members: subscribers of each channel.

        Raises:
            BenchError: as `deliver`.
        """
        limit = messages / rate + DELIVERY_TIMEOUT

        def produce() -> None:
            crowd.tell(f"talk {rate} {messages} {members}")

        return self._delivered(crowd, messages, messages * members, limit, produce)

    def _delivered(
        self, crowd: Talker, messages: int, deliveries: int, limit: float, produce: Callable[[], None]
    ) -> Delivery:
        crowd.ask("reset", "reset")
        node, redis, began = cpu_ns(self.node.pid), cpu_ns(self.redis.pid), time.monotonic()
        crowd.tell(f"expect {deliveries} {limit}")
        produce()
        arrived = crowd.hear("counted", limit + 1)
        seconds = time.monotonic() - began
        node, redis = cpu_ns(self.node.pid) - node, cpu_ns(self.redis.pid) - redis
        if arrived["publications"] < deliveries:
            what = f"{arrived['publications']:,} of {deliveries:,} deliveries arrived; {_state(arrived)}"
            raise BenchError(f"{what}\n{self.node.last_words()}")
        after = crowd.ask("report", "report")
        if after["publications"] != deliveries:
            raise BenchError(f"{after['publications']} deliveries instead of {deliveries}")
        if sum(after["closed"].values()):
            raise BenchError(f"{_state(after)}\n{self.node.last_words()}")
        return Delivery(messages, deliveries, seconds, node, redis, arrived)

    def bare_send_us(
        self, *, connections: int, size: float, rate: int, seconds: float, rest_us: int
    ) -> float:
        """The reference: CPU of one send() in a bare loop over as many sockets, in microseconds."""
        rounds = max(1, round(rate * seconds))
        options = {"connections": connections, "bytes": round(size), "rate": rate, "rounds": rounds}
        with Talker(self._programs.bare_send, options) as bare:
            port = bare.hear("listening", CONNECT_TIMEOUT)["port"]
            readers = {"port": port, "raw": 1, "connections": connections, "rest_us": rest_us}
            with Talker(self._programs.crowd, readers) as crowd:
                crowd.hear("ready", CONNECT_TIMEOUT)
                bare.hear("ready", CONNECT_TIMEOUT)
                done = bare.ask("go", "done", rounds / rate + DELIVERY_TIMEOUT)
        return float(done["cpu_ns"]) / 1000 / float(done["sends"])


def _state(report: Mapping[str, Any]) -> str:
    closed = ", ".join(f"{count} with {code}" for code, count in report["closed"].items()) or "none"
    return f"clients alive: {report['alive']}, closed: {closed} {report['problem']}".rstrip()
