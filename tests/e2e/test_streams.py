"""The official SDK in a real browser that does without WebSockets, on the node's own page and on another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Browser
from redis.asyncio import Redis

from service.api.page import WEB
from tests.support.checker import add, add_many, entries
from tests.support.node import StartNode
from tests.support.redis_process import RedisProcess

#: One event loop for all: they share a browser.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

#: Connects, and keeps what happens.
START = """([transport, url, channel]) => {
    window.received = [];
    window.codes = [];
    window.client = new Centrifuge(
        [{ transport, endpoint: `${url}/connection/${transport}` }],
        { emulationEndpoint: `${url}/emulation`, minReconnectDelay: 20, maxReconnectDelay: 200 },
    );
    client.on("connected", ({ transport }) => { window.connected = transport; });
    client.on("connecting", ({ code }) => codes.push(code));
    window.subscription = client.newSubscription(channel);
    subscription.on("subscribed", ({ recovered }) => { window.recovered = recovered; });
    subscription.on("publication", ({ data }) => received.push(data));
    subscription.subscribe();
    client.connect();
}"""


@pytest.mark.parametrize("transport", ["sse", "http_stream"])
@pytest.mark.parametrize("is_own", [True, False], ids=["own page", "another origin"])
async def test_streams_in_a_browser(
    browser: Browser,
    start_node: StartNode,
    redis_process: RedisProcess,
    redis: Redis,
    name: Callable[[str], str],
    transport: str,
    is_own: bool,
) -> None:
    """Publications, commands, and a node that goes down and comes back: nothing is missing."""
    channel = name("chat")
    site = await start_node(redis_process.url, {"server": {"demo_page": True}})
    origin = f"http://127.0.0.1:{site.port}"
    node = site
    if not is_own:
        node = await start_node(redis_process.url, {"server": {"allowed_origins": [origin]}})
    page = await browser.new_page()
    try:
        page.set_default_timeout(20_000)
        await page.goto(f"{origin}/static/style.css")  # a page of that origin, with nothing on it
        await page.add_script_tag(path=WEB / "vendor" / "centrifuge.js")
        await page.evaluate(START, [transport, f"http://127.0.0.1:{node.port}", channel])
        await page.wait_for_function("window.connected && window.recovered === false")
        assert await page.evaluate("connected") == transport
        await add_many(redis, channel, range(100))
        await page.wait_for_function("received.length === 100")
        await page.evaluate("subscription.publish({ by: 'page' })")
        await page.wait_for_function("received.length === 101")
        await node.stop()
        await page.wait_for_function("codes.includes(3001)")
        await add_many(redis, channel, range(100, 150))
        await node.start()
        await page.wait_for_function("window.recovered === true")
        await add(redis, channel, "end")
        await page.wait_for_function("received.at(-1) === 'end'")
        received = await page.evaluate("received")
        assert received == [given.data for given in await entries(redis, channel)]
    finally:
        await page.close()
