"""The page at /, in a real browser."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect
from redis.asyncio import Redis

from tests.e2e.conftest import OpenPage, StartDemo
from tests.e2e.room import page_settings, state
from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.redis_process import RedisProcess, StartRedis

#: One event loop for all: they share a browser.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

#: Whether a canvas shows anything.
DRAWN = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"


PRICE = re.compile(r"^\d+\.\d\d$")
DIGITS = re.compile(r"^\d+$")
CLOCK = re.compile(r"^\d+(\+\d+)?\W$|half-time|break|full time|penalties")
MILLISECONDS = re.compile(r"^\d+(\.\d)? ms$")
PER_SECOND = re.compile(r"^\d+/s$")


async def test_the_demo_is_alive(start_demo: StartDemo, open_page: OpenPage) -> None:
    """Prices change and are charted, the match is shown, latency and rate are measured."""
    demo = await start_demo()
    page = await open_page((await demo.until(r"is running: (http://\S+)"))[1])
    await state(page, "connected")
    for symbol in ("AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "TSLA"):
        card = page.locator(f'.quote[data-symbol="{symbol}"]')
        price = card.locator(".price")
        await expect(price).to_have_text(PRICE)
        first = await price.inner_text()
        await expect(price).not_to_have_text(first)
        await page.wait_for_function(DRAWN, arg=await card.locator("canvas").element_handle())
    await expect(page.locator('.team[data-side="0"] strong')).to_have_text("Argentina")
    await expect(page.locator("#score-0")).to_have_text(DIGITS)
    await expect(page.locator("#clock")).to_have_text(CLOCK)
    await expect(page.locator("#results li")).to_have_count(8)
    await expect(page.locator("#latency")).to_have_text(MILLISECONDS)
    await expect(page.locator("#rate")).to_have_text(PER_SECOND)
    await expect(page.locator("#present")).to_have_text("1 person here")
    await expect(page.locator(".bullet").first).to_be_attached()


async def page_node(start_node: StartNode, redis: RedisProcess) -> NodeProcess:
    """A node that serves the page, without feeds."""
    return await start_node(redis.url, page_settings())


async def say(redis: Redis, text: str, channel: str = "chat:lobby") -> None:
    """A chat message, as a producer writes it."""
    await redis.xadd(channel, {"data": json.dumps({"user": "producer", "text": text})})


async def messages(page: Page) -> list[str]:
    """The texts in the list."""
    return await page.locator("#messages .text, #messages .notice").all_inner_texts()


async def test_it_reconnects_and_recovers(
    start_node: StartNode,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    open_page: OpenPage,
) -> None:
    """A cut is shown; after it everything published meanwhile is there, once and in order."""
    process = start_redis()
    redis = connect_redis(process.url)
    node = await page_node(start_node, process)
    await say(redis, "before")
    async with Proxy(node.port) as proxy:
        page = await open_page(f"http://127.0.0.1:{proxy.port}/")
        await expect(page.locator("#messages li")).to_have_count(1)
        proxy.close_door()
        await state(page, "connecting")
        await expect(page.locator("#state span")).to_have_text("reconnecting")
        for number in range(5):
            await say(redis, f"missed {number}")
        proxy.open_door()
        await state(page, "connected")
        await say(redis, "after")
        await expect(page.locator("#messages li")).to_have_count(7)
        assert await messages(page) == ["before", *(f"missed {n}" for n in range(5)), "after"]


async def test_a_gap_is_told_and_filled_from_history(
    start_node: StartNode,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    open_page: OpenPage,
) -> None:
    """When the past was replaced while the page was away it says so, and shows what there is now."""
    process = start_redis()
    redis = connect_redis(process.url)
    node = await page_node(start_node, process)
    await say(redis, "before")
    async with Proxy(node.port) as proxy:
        page = await open_page(f"http://127.0.0.1:{proxy.port}/")
        await expect(page.locator("#messages li")).to_have_count(1)
        proxy.close_door()
        await state(page, "connecting")
        await redis.flushdb()
        await say(redis, "a new beginning")
        proxy.open_door()
        await state(page, "connected")
        told = "some messages were missed, here is what there is now"
        await expect(page.locator("#messages .notice")).to_have_text(told)
        assert await messages(page) == ["a new beginning", told]


async def test_odd_payloads_do_no_harm(
    start_node: StartNode,
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    open_page: OpenPage,
) -> None:
    """Any JSON may be in a stream: the page stays connected and goes on."""
    process = start_redis()
    redis = connect_redis(process.url)
    node = await page_node(start_node, process)
    page = await open_page(f"http://127.0.0.1:{node.port}/")
    await state(page, "connected")
    await expect(page.locator("#present")).not_to_be_empty()
    odd: tuple[Any, ...] = (None, 1, "text", [], {}, {"text": 5}, {"price": "high"}, {"game": 1, "teams": []})
    for channel in ("quotes:AAPL", "scores:live", "scores:results", "chat:lobby"):
        for payload in odd:
            await redis.xadd(channel, {"data": json.dumps(payload)})
    match = {
        "game": "g",
        "event": "clock",
        "minute": "12",
        "teams": ["Peru", "Chile"],
        "score": [1, 0],
        "length": 90,
    }
    await redis.xadd("scores:live", {"data": json.dumps(match)})
    await redis.xadd("quotes:AAPL", {"data": json.dumps({"bid": 10, "ask": 11})})
    # Of these, only objects are messages; and events of chat may lack what they are about.
    shown = page.locator("#messages .message")
    await expect(shown).to_have_count(4)
    target = await shown.first.get_attribute("data-id")
    events: tuple[dict[str, Any], ...] = (
        {},
        {"id": 5},
        {"id": target, "counts": None, "key": 1, "ids": 1, "title": {}},
    )
    for kind in ("edit", "delete", "reaction", "pin", "purge", "room", "what"):
        for event in events:
            if (kind, event.get("id")) != ("delete", target):
                await redis.xadd("chat:lobby", {"data": json.dumps({"type": kind, **event})})
    await redis.xadd("chat:lobby", {"data": json.dumps({"user": 5, "text": "the last"})})
    await expect(shown.last.locator(".text")).to_have_text("the last")
    await expect(page.locator('.quote[data-symbol="AAPL"] .price')).to_have_text("10.50")
    await expect(page.locator('.team[data-side="1"] strong')).to_have_text("Chile")
    await state(page, "connected")


@pytest.mark.parametrize("width", [390, 820, 1280])
async def test_it_fits(
    start_node: StartNode, redis_process: RedisProcess, open_page: OpenPage, width: int
) -> None:
    """Nothing is wider than the screen, on a phone, a tablet and a desktop."""
    node = await page_node(start_node, redis_process)
    page = await open_page(f"http://127.0.0.1:{node.port}/")
    await page.set_viewport_size({"width": width, "height": 800})
    await state(page, "connected")
    assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_comments_leave_the_score_alone(
    start_node: StartNode, redis_process: RedisProcess, open_page: OpenPage, redis: Redis
) -> None:
    """On a phone they fly above it; long ones fly whole."""
    node = await page_node(start_node, redis_process)
    page = await open_page(f"http://127.0.0.1:{node.port}/")
    await page.set_viewport_size({"width": 390, "height": 844})
    await state(page, "connected")
    await expect(page.locator("#present")).not_to_be_empty()
    text = "a long comment " * 12 + "END"
    for _ in range(4):
        await say(redis, text)
    bullet = page.locator(".bullet").first
    await expect(bullet).to_have_text(text)
    assert await bullet.evaluate(
        "bullet => bullet.offsetWidth === bullet.scrollWidth && bullet.offsetWidth > 900"
    )
    lowest = await page.evaluate("document.getElementById('bullets').getBoundingClientRect().bottom")
    score = await page.evaluate("document.querySelector('.digits span').getBoundingClientRect()")
    assert lowest < score["top"] + score["height"] / 4


async def test_old_figures_are_dimmed(
    start_node: StartNode, redis_process: RedisProcess, open_page: OpenPage
) -> None:
    """They tell of a connection that is gone."""
    node = await page_node(start_node, redis_process)
    page = await open_page(f"http://127.0.0.1:{node.port}/")
    await state(page, "connected")
    await expect(page.locator("#latency")).to_have_css("opacity", "1")
    await node.stop()
    await expect(page.locator("#latency")).to_have_css("opacity", "0.4")


async def test_symbols_can_be_chosen(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, open_page: OpenPage
) -> None:
    """?symbols= shows other quotes, such as those of a replayed file."""
    node = await page_node(start_node, redis_process)
    await redis.xadd(
        "quotes:BTCUSDT", {"data": '{"bid":61837.63,"ask":61837.64,"bid_size":3.1,"ask_size":1.5}'}
    )
    page = await open_page(f"http://127.0.0.1:{node.port}/?symbols=BTCUSDT,ETHUSDT")
    await expect(page.locator(".quote")).to_have_count(2)
    await expect(page.locator('.quote[data-symbol="BTCUSDT"] .price')).to_have_text("61,837.6")


async def test_the_theme_is_switched_and_kept(
    start_node: StartNode, redis_process: RedisProcess, open_page: OpenPage
) -> None:
    """The button changes light to dark, and a reload keeps the choice."""
    node = await page_node(start_node, redis_process)
    page = await open_page(f"http://127.0.0.1:{node.port}/")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = await page.evaluate(colour)
    await page.click("#theme")
    after = await page.evaluate(colour)
    assert before != after
    await page.reload()
    assert await page.evaluate(colour) == after
