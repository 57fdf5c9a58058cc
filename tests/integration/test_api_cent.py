"""The server API as Centrifugo's own Python client calls it: requests and results are the ones it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import cent
import pytest
import pytest_asyncio

from tests.support import api
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, signed_in, someone
from tests.support.ws_client import Json

Name = Callable[[str], str]
Nodes = tuple[NodeProcess, NodeProcess]

SETTINGS: Json = {
    "api": api.API,
    "tokens": TOKENS,
    "namespaces": {"team": {"mode": "log", "subscribe": "authenticated", "presence": "authenticated"}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


@pytest_asyncio.fixture
async def client(pair: Nodes) -> AsyncIterator[cent.AsyncClient]:
    async with _client(pair[0]) as client:
        yield client


def _client(node: NodeProcess, key: str = api.KEY) -> cent.AsyncClient:
    return cent.AsyncClient(f"http://127.0.0.1:{node.admin_port}/api", key)


async def test_publish_and_history(client: cent.AsyncClient, name: Name) -> None:
    channel = name("log")
    request = cent.PublishRequest(channel=channel, data={"n": 1}, tags={"a": "b"}, idempotency_key="k")
    published = await client.publish(request)
    assert published == await client.publish(request)
    second = await client.publish(cent.PublishRequest(channel=channel, data={"n": 2}))
    history = await client.history(cent.HistoryRequest(channel=channel, limit=10))
    assert [publication.data for publication in history.publications] == [{"n": 1}, {"n": 2}]
    assert history.publications[0].tags == {"a": "b"}
    assert (history.publications[0].offset, history.offset) == (published.offset, second.offset)
    assert history.epoch == published.epoch
    since = cent.StreamPosition(offset=second.offset, epoch=second.epoch)
    page = await client.history(cent.HistoryRequest(channel=channel, limit=10, since=since, reverse=True))
    assert [publication.offset for publication in page.publications] == [published.offset]
    await client.history_remove(cent.HistoryRemoveRequest(channel=channel))
    assert (await client.history(cent.HistoryRequest(channel=channel, limit=10))).publications == []


async def test_broadcast(client: cent.AsyncClient, name: Name) -> None:
    channels = [name("log"), "nowhere:x"]
    result = await client.broadcast(cent.BroadcastRequest(channels=channels, data="x"))
    good, bad = result.responses
    assert good.error is None
    assert good.result is not None
    assert good.result.offset > 0
    assert bad.error is not None
    assert bad.error.code == 102


async def test_presence(client: cent.AsyncClient, pair: Nodes, name: Name) -> None:
    channel, user = name("team"), someone()
    async with signed_in(pair[0].url, user) as session:
        await session.subscribe(channel)
        presence = await client.presence(cent.PresenceRequest(channel=channel))
        assert [(key, info.user) for key, info in presence.presence.items()] == [
            (session.hello["client"], user)
        ]
        stats = await client.presence_stats(cent.PresenceStatsRequest(channel=channel))
        assert (stats.num_clients, stats.num_users) == (1, 1)


async def test_sessions(client: cent.AsyncClient, pair: Nodes, name: Name) -> None:
    channel, user = name("team"), someone()
    async with signed_in(pair[1].url, user) as session:
        await session.subscribe(channel)
        one: Json = {"user": user, "client": session.hello["client"]}
        await client.unsubscribe(cent.UnsubscribeRequest(channel=channel, **one))
        while "unsubscribe" not in await session.next_push():
            pass
        why = cent.Disconnect(code=4501, reason="gone")
        await client.disconnect(cent.DisconnectRequest(disconnect=why, whitelist=[], **one))
        assert await session.closed() == (4501, "gone")


async def test_batch(client: cent.AsyncClient, name: Name) -> None:
    channel = name("log")
    publish = cent.PublishRequest(channel=channel, data=1)
    for parallel in (False, True):
        request = cent.BatchRequest(requests=[publish, publish], parallel=parallel)
        first, second = (await client.batch(request)).replies
        assert isinstance(first, cent.PublishResult)
        assert isinstance(second, cent.PublishResult)
        assert first.offset != second.offset


async def test_errors(client: cent.AsyncClient, pair: Nodes) -> None:
    """Its exceptions are the right ones."""
    with pytest.raises(cent.CentApiResponseError) as refused:
        await client.publish(cent.PublishRequest(channel="nowhere:x", data=1))
    assert refused.value.code == 102
    async with _client(pair[0], "not the key") as stranger:
        with pytest.raises(cent.CentUnauthorizedError):
            await stranger.presence(cent.PresenceRequest(channel="log:x"))
