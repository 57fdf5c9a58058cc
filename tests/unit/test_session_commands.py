"""session.commands: who may do what, within which limits, and how the results look on the wire."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from service.channels import Namespace
from service.errors import Unavailable
from service.identity.identity import Identity
from service.streams.history import Page, Since
from service.streams.position import to_offset
from tests.unit.fakes.clock import turns, virtual_time
from tests.unit.fakes.fanout import EPOCH, publication, start_at
from tests.unit.fakes.session import FakeClient, World

pytestmark = pytest.mark.usefixtures("loop_time")


async def _ask(client: FakeClient, method: str, **request: Any) -> Any:
    """The result of a command, or its error's code."""
    client.transport.written.clear()
    client.send(orjson.dumps({"id": 9, method: request}))
    await turns(10)
    (answer,) = [a for line in client.received if "id" in (a := orjson.loads(line))]
    assert answer["id"] == 9
    return answer["error"]["code"] if "error" in answer else answer[method]


# Permissions


@pytest.mark.parametrize("method", ["subscribe", "publish", "history", "presence", "presence_stats"])
@virtual_time
async def test_channels_are_looked_at_first(method: str) -> None:
    """No name 107, no such namespace or a bad name 102, not allowed 103."""
    client = World().client()
    assert await _ask(client, method) == 107
    assert await _ask(client, method, channel=5) == 107
    assert await _ask(client, method, channel="gone:a") == 102
    assert await _ask(client, method, channel="log:*") == 102
    assert await _ask(client, method, channel="log:a{b}") == 102
    assert await _ask(client, method, channel="closed:a") == 103


@virtual_time
async def test_an_rpc_of_no_known_method() -> None:
    """104, and the connection stays."""
    assert await _ask(World().client(), "rpc", data={}) == 104


@virtual_time
async def test_send_is_not_answered() -> None:
    """There is nobody to hear it."""
    client = World().client()
    client.send(b'{"send":{"data":{}}}', b'{"id":2,"send":{"data":{}}}')
    await turns()
    assert client.received == []
    assert client.close_code == 0


# Subscribe


@virtual_time
async def test_a_subscription_says_where_it_begins() -> None:
    """Every result of a recoverable subscription carries its offset and epoch."""
    client = World().client()
    assert await _ask(client, "subscribe", channel="log:a") == {
        "recoverable": True,
        "positioned": True,
        "epoch": EPOCH,
        "offset": to_offset((10, 0)),
    }
    assert await _ask(client, "subscribe", channel="log:a") == 105


@virtual_time
async def test_a_name_without_prefix_belongs_to_the_default_namespace() -> None:
    """As configured."""
    assert (await _ask(World().client(), "subscribe", channel="lobby"))["epoch"] == EPOCH


@virtual_time
async def test_a_snapshot_is_tagged() -> None:
    """`latest` sends the last value on subscribe."""
    world = World()
    world.feed.start = start_at(10, publication(10))
    result = await _ask(world.client(), "subscribe", channel="latest:a")
    assert [p["tags"] for p in result["publications"]] == [{"snapshot": "true"}]
    assert "was_recovering" not in result


@virtual_time
async def test_a_recovery() -> None:
    """What was missed, with the offset that was asked for."""
    world = World()
    client = world.client()
    world.history.since_answer = Since(True, [publication(8), publication(10)], (10, 0))
    result = await _ask(client, "subscribe", channel="log:a", recover=True, epoch=EPOCH, offset=7 << 12)
    assert result["was_recovering"] is True
    assert result["recovered"] is True
    assert result["offset"] == 7 << 12
    assert [p["offset"] for p in result["publications"]] == [8 << 12, 10 << 12]
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_resume_total", {"result": "miss"}) == 1


@virtual_time
async def test_a_recovery_that_fails_is_told() -> None:
    """No publications, the top's offset, and still subscribed."""
    world = World()
    client = world.client()
    result = await _ask(client, "subscribe", channel="log:a", recover=True, epoch="old", offset=7 << 12)
    assert result["was_recovering"] is True
    assert "recovered" not in result
    assert "publications" not in result
    assert result["offset"] == 10 << 12
    assert "log:a" in client.session.subscriptions


@virtual_time
async def test_a_recovery_may_be_refused() -> None:
    """Flag 2: 112 rather than a gap; then there is no subscription."""
    world = World()
    client = world.client()
    request = {"channel": "log:a", "recover": True, "epoch": "old", "offset": 1, "flag": 2}
    assert await _ask(client, "subscribe", **request) == 112
    assert client.session.subscriptions == {}
    channel = world.hub.get("log:a")
    assert channel is not None
    assert not channel.users


@virtual_time
async def test_a_recovery_is_bounded_by_half_the_outbox() -> None:
    """Else it would close the client as slow, for ever again."""
    big = b'"%b"' % (b"x" * 900)
    for count, recovered in ((2, True), (3, False)):
        world = World(outbox_bytes=4096)
        world.history.since_answer = Since(True, [publication(n, big) for n in range(8, 8 + count)], (10, 0))
        result = await _ask(
            world.client(), "subscribe", channel="log:a", recover=True, epoch=EPOCH, offset=7 << 12
        )
        assert result.get("recovered", False) is recovered


@virtual_time
async def test_subscriptions_are_bounded() -> None:
    """Those under way count, too: many may come in one message."""
    world = World(subscriptions=3)
    client = world.client()
    client.send(*[b'{"id":%d,"subscribe":{"channel":"log:%d"}}' % (i, i) for i in range(2, 7)])
    await turns(10)
    answers = {a["id"]: a for a in map(orjson.loads, client.received)}
    assert [answers[i].get("error", {}).get("code") for i in range(2, 7)] == [None, None, None, 106, 106]
    assert await _ask(client, "unsubscribe", channel="log:2") == {}
    assert (await _ask(client, "subscribe", channel="log:9"))["epoch"] == EPOCH


@virtual_time
async def test_a_failed_subscribe_is_counted_no_more() -> None:
    """It leaves room for the next."""
    world = World(subscriptions=1)
    client = world.client()
    world.feed.failure = Unavailable("no")
    assert await _ask(client, "subscribe", channel="log:a") == 100
    world.feed.failure = None
    assert (await _ask(client, "subscribe", channel="log:a"))["epoch"] == EPOCH


@virtual_time
async def test_unsubscribe() -> None:
    """Fine whether there was a subscription or not; then nothing comes any more."""
    world = World()
    client = world.client()
    await _ask(client, "subscribe", channel="log:a")
    assert await _ask(client, "unsubscribe", channel="log:a") == {}
    assert await _ask(client, "unsubscribe", channel="log:a") == {}
    assert await _ask(client, "unsubscribe") == 107
    client.transport.written.clear()
    world.hub_world.deliver("log:a", 11)
    assert client.received == []


# Publish


@virtual_time
async def test_publish_says_who() -> None:
    """The client's id goes along, where consumers find it."""
    world = World()
    client = world.client()
    assert await _ask(client, "publish", channel="log:a", data={"x": 1}) == {}
    ((channel, data, info),) = world.publisher.published
    assert (channel, data) == ("log:a", b'{"x":1}')
    assert orjson.loads(info or b"") == {"client": client.session.id}


@virtual_time
async def test_publish_is_closed_by_default() -> None:
    """103 where the namespace does not say otherwise."""
    assert await _ask(World().client(), "publish", channel="latest:a", data=1) == 103


@virtual_time
async def test_publications_are_bounded() -> None:
    """106 beyond, and counted; without data 107."""
    world = World(publication_bytes=10)
    client = world.client()
    assert await _ask(client, "publish", channel="log:a", data="12345678") == {}
    assert await _ask(client, "publish", channel="log:a", data="123456789") == 106
    assert await _ask(client, "publish", channel="log:a") == 107
    sample = world.metrics.registry.get_sample_value
    assert sample("streamgate_publish_rejected_total", {"reason": "106"}) == 1


@virtual_time
async def test_what_the_application_makes_of_a_publication_is_bounded() -> None:
    """As what the client sent is."""

    class Hooks:
        async def publish(self, client: str, identity: Identity, channel: str, data: bytes) -> bytes:
            return b'"longer than it was"'

    world = World(publication_bytes=10)
    namespaces = {"log": Namespace(publish="anonymous", publish_hook=True)}
    settings = world.settings.model_copy(update={"namespaces": namespaces})
    world.context = world.context._replace(settings=settings, hooks=cast(Any, Hooks()))
    assert await _ask(world.client(), "publish", channel="log:a", data=1) == 106
    assert world.publisher.published == []


# History


@virtual_time
async def test_history() -> None:
    """A page, and where the stream stands."""
    world = World()
    world.history.page_answer = Page([publication(7), publication(8)], (9, 0))
    since = {"offset": 6 << 12, "epoch": EPOCH}
    result = await _ask(world.client(), "history", channel="log:a", limit=2, since=since)
    assert (result["epoch"], result["offset"]) == (EPOCH, 9 << 12)
    assert [p["offset"] for p in result["publications"]] == [7 << 12, 8 << 12]
    assert world.history.calls[-1] == ("page", "log:a", (6, 0), 2, False)


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (-1, 50), (10, 10), (1000, 50)])
@virtual_time
async def test_history_pages_are_bounded(limit: int, asked: int) -> None:
    """-1 is all there may be; 0 the position only."""
    world = World(history_page=50)
    result = await _ask(world.client(), "history", channel="log:a", limit=limit, reverse=True)
    assert result["offset"] == 10 << 12
    assert world.history.calls[-1] == ("page", "log:a", None, asked, True)


@virtual_time
async def test_history_of_another_epoch() -> None:
    """112: the position means nothing any more; without an epoch it is taken as it is."""
    client = World().client()
    assert await _ask(client, "history", channel="log:a", since={"offset": 1, "epoch": "old"}) == 112
    assert (await _ask(client, "history", channel="log:a", since={"offset": 1}))["epoch"] == EPOCH
    assert await _ask(client, "history", channel="log:a", since=5) == 107
    assert await _ask(client, "history", channel="log:a", limit=-2) == 107


# Presence


@virtual_time
async def test_presence() -> None:
    """Who is subscribed, by client id; nobody in a channel nobody follows."""
    world = World()
    one, other = world.client(), world.client()
    assert await _ask(one, "presence", channel="log:a") == {"presence": {}}
    assert await _ask(one, "presence_stats", channel="log:a") == {}
    for client in (one, other):
        await _ask(client, "subscribe", channel="log:a")
    found = (await _ask(one, "presence", channel="log:a"))["presence"]
    assert found == {c.session.id: {"client": c.session.id} for c in (one, other)}
    assert await _ask(one, "presence_stats", channel="log:a") == {"num_clients": 2, "num_users": 2}
    assert await _ask(one, "presence", channel="latest:a") == 103
