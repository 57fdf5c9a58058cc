"""The server API tells what nodes there are, and which channels they have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import cent
import pytest
import pytest_asyncio

from service import __version__
from tests.support import api
from tests.support.node import NodeProcess, StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess, StartRedis
from tests.support.tokens import TOKENS, signed_in, someone
from tests.support.waiting import eventually
from tests.support.ws_client import Json, open_client

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {"api": api.API, "tokens": TOKENS}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def alone() -> AsyncIterator[RedisProcess]:
    """A Redis with no other nodes than ours."""
    with RedisProcess() as process:
        process.start()
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(alone: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(alone.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


async def test_info(pair: Nodes) -> None:
    """Each node, with what it has; the same from each."""
    user = someone()
    async with (
        signed_in(pair[0].url, user) as one,
        signed_in(pair[0].url, user) as two,
        open_client(pair[0].url) as anonymous,
    ):
        for client in (one, two, anonymous):
            await client.subscribe("log:info")
        await one.subscribe("log:more")

        async def all_there() -> list[Json]:  # those of the test before have gone
            result = await api.call(pair[1], "info")
            assert result["missing"] == 0
            nodes: list[Json] = result["nodes"]
            return nodes if sorted(node["num_clients"] for node in nodes) == [0, 3] else []

        nodes = await eventually(all_there, "three clients on one node")
        assert len({node["uid"] for node in nodes}) == 2
        assert {node["name"].rpartition("_")[2] for node in nodes} == {str(node.port) for node in pair}
        (busy,) = [node for node in nodes if node["num_clients"]]
        assert busy["uid"] == one.hello["node"]
        assert (busy["version"], busy["num_users"]) == (__version__, 1)
        assert (busy["num_channels"], busy["num_subs"]) == (2, 4)
        assert busy["uptime"] >= 0


async def test_channels(pair: Nodes, name: Name) -> None:
    """Those of a pattern, with the clients of all nodes; not those that are only in Redis."""
    shared, single, other = name("log"), name("log"), name("quotes")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(node.url)) for node in pair]
        for client in clients:
            await client.subscribe(shared)
        await clients[1].subscribe(single)
        await clients[0].subscribe(other)
        await api.call(pair[0], "publish", channel=name("log"), data=1)
        expected = {shared: 2, single: 1, other: 1}
        part = shared.partition(":")[2][:-1]
        for pattern, names in (
            ("", expected.keys()),
            (f"*{part}*", expected.keys()),
            (f"log:{part}?", {shared, single}),
            (other, {other}),
            ("nothing*", set()),
        ):
            result = await api.call(pair[0], "channels", pattern=pattern)
            found = {channel: each["num_clients"] for channel, each in result["channels"].items()}
            assert {channel: found[channel] for channel in names} == {
                channel: expected[channel] for channel in names
            }
            assert not pattern or found.keys() == names
            assert result["missing"] == 0


async def test_a_node_that_was_stopped(start_redis: StartRedis, start_node: StartNode) -> None:
    """It is not missed."""
    redis = start_redis()
    first, second = [await start_node(redis.url, SETTINGS) for _ in range(2)]
    await second.stop()
    result = await api.call(first, "info")
    assert (len(result["nodes"]), result["missing"]) == (1, 0)


async def test_a_node_that_was_killed(start_redis: StartRedis, start_node: StartNode) -> None:
    """The others are answered for; it counts as missing until it is given up."""
    redis = start_redis()
    first, second = [await start_node(redis.url, SETTINGS) for _ in range(2)]
    second.kill()
    for method in ("info", "channels"):
        assert (await api.call(first, method))["missing"] == 1
    assert [node["num_clients"] for node in (await api.call(first, "info"))["nodes"]] == [0]


@pytest.mark.parametrize(
    ("method", "params", "why"),
    [
        ("info", {"node": "x"}, "no parameter 'node'; there are none"),
        ("channels", {"pattern": 5}, "pattern must be a string"),
        ("channels", {"pattern": "x" * 256}, "pattern has at most 255 characters, not 256"),
        ("channels", {"patern": "log:*"}, "no parameter 'patern'; there are pattern"),
    ],
)
async def test_what_is_refused(pair: Nodes, method: str, params: Json, why: str) -> None:
    error = await api.error(pair[0], method, **params)
    assert (error["code"], why in error["message"]) == (107, True), error


async def test_by_cent(pair: Nodes, name: Name) -> None:
    """Its results are filled."""
    channel = name("log")
    async with (
        open_client(pair[1].url) as client,
        cent.AsyncClient(f"http://127.0.0.1:{pair[0].admin_port}/api", api.KEY) as application,
    ):
        await client.subscribe(channel)
        channels = await application.channels(cent.ChannelsRequest(pattern=channel))
        assert {key: each.num_clients for key, each in channels.channels.items()} == {channel: 1}
        info = await application.info(cent.InfoRequest())
        assert {node.version for node in info.nodes} == {__version__}
