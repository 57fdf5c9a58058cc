"""What a cluster asks a node: does it live, is it ready, what does it count."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests.support import http
from tests.support.checker import add_many
from tests.support.node import NodeProcess, StartNode
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually
from tests.support.ws_client import open_client

Name = Callable[[str], str]

#: OPS.md names these groups; a dashboard breaks where one of them is renamed.
_NAMES = (
    "connections",
    "connections_opened_total",
    "connections_closed_total",
    "connection_duration_seconds",
    "handshake_seconds",
    "admission_rejected_total",
    "subscriptions",
    "channels",
    "published_total",
    "publish_seconds",
    "publish_rejected_total",
    "delivery_latency_seconds",
    "fanout_size",
    "deliveries_total",
    "delivered_bytes_total",
    "queue_bytes",
    "slow_consumers",
    "slow_disconnects_total",
    "conflated_total",
    "resume_total",
    "resume_entries",
    "tail_lag_seconds",
    "redis_seconds",
    "redis_errors_total",
    "redis_reconnects_total",
    "clock_offset_seconds",
    "event_loop_lag_seconds",
    "build_info",
    "draining",
    "entries_undeliverable_total",
)


def _family(metric: str) -> str:
    """What the parser calls it where it has no sample yet."""
    return f"streamgate_{metric.removesuffix('_total')}"


async def test_a_node_that_serves_lives_and_is_ready(node: NodeProcess) -> None:
    assert (await http.get(node.admin_port, "/livez")).status == 200
    assert (await http.get(node.admin_port, "/readyz")).status == 200


async def test_clients_reach_neither_probes_nor_metrics(node: NodeProcess) -> None:
    assert (await http.get(node.port, "/metrics")).status == 404


async def test_metrics_are_named_and_carry_no_identities(node: NodeProcess, redis: Redis, name: Name) -> None:
    channel = name("chat")
    async with open_client(node.url) as client:
        await client.subscribe(channel)
        await client.call("publish", channel=channel, data="hi")
        await client.next_publication(channel)
        answer = await http.get(node.admin_port, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body)}
    names = families.keys() | {sample.name for family in families.values() for sample in family.samples}
    missing = [metric for metric in _NAMES if not names & {f"streamgate_{metric}", _family(metric)}]
    assert missing == []
    assert "process_cpu_seconds" in families
    assert channel not in answer.body
    assert client.hello["client"] not in answer.body
    for family in families.values():
        for sample in family.samples:
            assert not sample.labels.keys() & {"channel", "user", "client", "session"}, sample


async def test_what_is_counted(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    async with open_client(node.url) as a, open_client(node.url) as b:
        for client in (a, b):
            await client.subscribe(channel)
        await add_many(redis, channel, range(100))
        for client in (a, b):
            await client.publications(channel, 100)
        metrics = await node.metrics()
        assert metrics["streamgate_connections"] == 2
        assert metrics["streamgate_connections_opened_total"] == 2
        assert metrics["streamgate_subscriptions"] == 2
        assert metrics["streamgate_channels"] == 1
        assert metrics["streamgate_deliveries_total"] == 200
        assert metrics["streamgate_fanout_size_count"] > 0
        assert metrics["streamgate_delivery_latency_seconds_count"] > 0
        assert metrics["streamgate_delivered_bytes_total"] > 200 * len('{"push":{}}')

    async def empty() -> bool:
        metrics = await node.metrics()
        return metrics["streamgate_connections"] == metrics["streamgate_subscriptions"] == 0

    await eventually(empty, "both connections are counted as closed")
    assert await node.metric("streamgate_connections_closed_total") == 2


async def test_recoveries_are_counted_by_result(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    node = await start_node(redis_process.url)
    channel = name("log")
    written = await add_many(redis, channel, range(10))
    async with open_client(node.url) as client:
        epoch = (await client.call("history", channel=channel))["epoch"]
        await client.recover(channel, {"offset": written[4].offset, "epoch": epoch})
        await client.call("unsubscribe", channel=channel)
        before = await node.metric("streamgate_resume_total")
        await client.recover(channel, {"offset": written[4].offset, "epoch": "another"})
        assert await node.metric("streamgate_resume_total") == before + 1
        assert await node.metric("streamgate_resume_total", result="gap") == 1
    assert before == 1


async def test_a_channel_without_subscribers_is_forgotten(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    node = await start_node(redis_process.url, {"redis": {"unfollow_seconds": 0.2}})
    async with open_client(node.url) as client:
        await client.subscribe(name("log"))
        assert await node.metric("streamgate_channels") == 1

    async def none() -> bool:
        return await node.metric("streamgate_channels") == 0

    await eventually(none, "the channel is not followed any more")
