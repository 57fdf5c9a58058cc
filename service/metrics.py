"""Every Prometheus instrument, in one place. No label by channel, user or client.

Counters on hot paths are raised by `inc(n)` once for a whole batch.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service import __version__

#: Seconds; from a socket write up to what a user calls broken.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Seconds of a connection's life.
DURATION_BUCKETS = (1, 10, 60, 600, 3600, 21_600, 86_400)

#: Subscribers of one publication.
FANOUT_BUCKETS = (1, 10, 100, 1_000, 10_000, 100_000)


M = TypeVar("M", Counter, Histogram)


class Children(dict[str, M], Generic[M]):
    """A metric's children by the value of its one label, for hot paths: `labels` takes as long as `inc`."""

    def __init__(self, metric: M) -> None:
        self.metric: M = metric

    def __missing__(self, value: str) -> M:
        child: M = self.metric.labels(value)
        self[value] = child
        return child


class Metrics:
    """The instruments of one node, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("streamgate_build", "What is running.", registry=registry).info({"version": __version__})

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streamgate_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"streamgate_{name}", text, labels, registry=registry)

        def histogram(
            name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS
        ) -> Histogram:
            return Histogram(f"streamgate_{name}", text, labels, registry=registry, buckets=buckets)

        # Connections
        self.connections = gauge("connections", "Open client connections.", "transport")
        self.connections_opened = counter("connections_opened_total", "Connections accepted.", "transport")
        self.connections_closed = counter("connections_closed_total", "Connections ended.", "code")
        self.connection_duration = histogram(
            "connection_duration_seconds",
            "Life of a connection.",
            buckets=DURATION_BUCKETS,
        )
        self.handshake = histogram("handshake_seconds", "Accept of a connection to the answer to connect.")
        self.admission_rejected = counter(
            "admission_rejected_total", "Connections refused with HTTP 403 or 503.", "reason"
        )
        self.emulated = counter(
            "emulated_total", "Requests to /emulation: here, relayed or refused.", "result"
        )
        self.commands = Children(counter("commands_total", "Client commands.", "method"))
        self.command_errors = counter("command_errors_total", "Client commands refused.", "code")

        # Identity
        self.auth_failures = counter("auth_failures_total", "Tokens and clients refused.", "reason")
        self.hook_seconds = histogram("hook_seconds", "Answers of the application's back end.", "hook")
        self.hook_failures = counter("hook_failures_total", "Questions it did not answer.", "hook", "reason")
        self.control = counter("control_commands_total", "Commands to all nodes carried out.", "command")

        # Server API
        self.api_requests = counter(
            "api_requests_total", "Calls of the server API, by error code; 0: a result.", "method", "code"
        )

        # Presence and chat
        self.presence_members = gauge("presence_members", "Clients of this node that presence tells of.")
        self.presence_writes = counter("presence_writes_total", "Batches of joins and leaves written.")
        self.chat_commands = Children(counter("chat_commands_total", "Chat commands carried out.", "command"))
        self.chat_duplicates = counter("chat_duplicates_total", "Messages whose nonce was known already.")

        # Subscriptions
        self.subscriptions = gauge("subscriptions", "Subscriptions of all sessions.")
        self.channels = gauge("channels", "Channels followed.")

        # Ingress
        self.published = Children(
            counter("published_total", "Publications written for clients.", "namespace")
        )
        self.publish_seconds = histogram("publish_seconds", "XADD, as seen by the node.")
        self.publish_rejected = counter(
            "publish_rejected_total", "Publications of clients refused, by error code.", "reason"
        )
        self.entries = Children(counter("entries_total", "Stream entries read by the tail.", "namespace"))
        self.undeliverable = counter(
            "entries_undeliverable_total", "Stream entries that no client can be given.", "reason"
        )

        # Fan-out
        self.delivery_latency = histogram(
            "delivery_latency_seconds", "Stream id to fan-out; clocks are corrected by clock_offset_seconds."
        )
        self.fanout_size = histogram("fanout_size", "Subscribers of a publication.", buckets=FANOUT_BUCKETS)
        self.deliveries = Children(
            counter("deliveries_total", "Publications handed to sessions.", "namespace")
        )
        self.delivered_bytes = counter("delivered_bytes_total", "Bytes of publications handed to sessions.")

        # Slow clients
        self.queue_bytes = gauge("queue_bytes", "Pending output of sessions that cannot keep up.")
        self.slow_consumers = gauge("slow_consumers", "Sessions that cannot keep up now.")
        self.slow_disconnects = counter("slow_disconnects_total", "Sessions closed with 3008.", "reason")
        self.conflated = counter("conflated_total", "Publications replaced by a newer one of their channel.")
        self.dropped = counter("dropped_total", "Pushes that a full socket went without.", "reason")

        # Resume
        self.resume = counter("resume_total", "Recoveries asked for.", "result")
        self.resume_entries = histogram(
            "resume_entries", "Entries of a recovery.", buckets=(0, 1, 10, 100, 1_000, 10_000)
        )
        self.gaps = counter("gaps_total", "Channels whose continuity broke.", "namespace")
        self.window_bytes = gauge("window_bytes", "Publications kept in memory.")
        self.history_reads = counter("history_reads_total", "Reads of Redis for joins, recoveries and pages.")

        # Redis
        self.tail_connected = gauge("tail_connected", "1 while the tail has its connection.")
        self.tail_lag = gauge("tail_lag_seconds", "How long a changed channel has waited to be read.")
        self.tail_reads = counter("tail_reads_total", "Channels read by the tail.")
        self.tail_empty_reads = counter("tail_empty_reads_total", "Hinted reads that found nothing new.")
        self.tail_errors = counter("tail_errors_total", "Reads of a channel that failed.", "kind")
        self.redis_seconds = Children(histogram("redis_seconds", "Round trips to Redis.", "command"))
        self.redis_errors = counter("redis_errors_total", "Calls unanswered or refused.", "kind")
        self.redis_reconnects = counter("redis_reconnects_total", "Connections to Redis lost.", "link")
        self.clock_offset = gauge("clock_offset_seconds", "Redis' clock minus this node's.")
        self.trimmed = counter("trimmed_entries_total", "Entries trimmed for foreign producers.", "namespace")
        self.trim_seconds = gauge("trim_seconds", "Duration of the last walk over all streams.")
        self.trim_last = gauge("trim_last_timestamp_seconds", "When this node's last walk ended.")

        # Runtime
        self.loop_lag = histogram("event_loop_lag_seconds", "Lateness of a timer.")
        self.loop_lag_max = gauge("event_loop_lag_max_seconds", "Largest lateness since the last scrape.")
        self.draining = gauge("draining", "1 from SIGTERM on.")
