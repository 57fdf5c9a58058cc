"""The chat of the page, in real browsers: two people, a moderator, and what each sees of the other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import expect
from redis.asyncio import Redis

from tests.conftest import assert_no_alarm
from tests.e2e.conftest import OpenPage, StartDemo
from tests.e2e.room import Person, Room, arrive, page_settings, state
from tests.support.node import NodeProcess, StartNode
from tests.support.proxy import Proxy
from tests.support.redis_process import RedisProcess

#: One event loop for all: they share a browser.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MILLISECONDS = re.compile(r"^\d+(\.\d)? ms$")

#: Somebody tries to have their script run at others.
EVIL = "<img src=x onerror=fail()>"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _node(redis_process: RedisProcess) -> AsyncIterator[NodeProcess]:
    """One for all these tests: each has a room of its own."""
    with NodeProcess(redis_process.url, page_settings()) as node:
        await node.start()
        yield node
        await node.stop()


@pytest.fixture
def room(_node: NodeProcess, redis: Redis, name: Callable[[str], str]) -> Iterator[Room]:
    """A room of this test's own."""
    yield Room(_node, redis, name("chat"))
    assert_no_alarm(_node)


async def test_the_demo_lets_people_in(start_demo: StartDemo, open_page: OpenPage) -> None:
    """In `streamgate demo` visitors watch a lively room; with a name they take part, and fly by."""
    demo = await start_demo()
    page = await open_page((await demo.until(r"is running: (http://\S+)"))[1])
    person = Person(page)
    await person.here()
    await expect(person.messages.nth(1)).to_be_visible()
    await expect(page.locator("#composer")).to_be_hidden()
    await expect(person.messages.first.locator(".more")).to_be_hidden()
    await person.sign_in("Ada")
    await page.evaluate(
        """() => {
            window.flown = [];
            const watch = (changes) => changes.forEach((change) =>
                change.addedNodes.forEach((bullet) => flown.push(bullet.textContent)));
            new MutationObserver(watch).observe(document.getElementById("bullets"), { childList: true });
        }"""
    )
    await person.say("hello from a browser")
    await expect(person.message("hello from a browser")).to_have_class(re.compile("own"))
    await expect(person.message("hello from a browser").locator("small")).to_have_text(MILLISECONDS)
    await expect(page.locator("#text")).to_have_value("")
    await page.wait_for_function("window.flown.some((text) => text.includes('hello from a browser'))")


async def test_what_becomes_of_a_message(room: Room, open_page: OpenPage) -> None:
    """Sent, edited, reacted to by two, deleted: both pages agree, and so does a third that comes late."""
    ada, bo = await arrive(open_page, room.url(), "Ada"), await arrive(open_page, room.url(), "Bo")
    await ada.say("helo")
    await expect(bo.texts).to_have_text(["helo"])
    await expect(bo.message("helo").locator("b")).to_have_text("Ada")

    await ada.choose("helo", "Edit")
    await ada.page.get_by_label("Edit your message").fill("hello")
    await ada.page.keyboard.press("Enter")
    for person in (ada, bo):
        await expect(person.texts).to_have_text(["hello"])
        await expect(person.messages.locator("small")).to_contain_text("edited")

    await ada.choose("hello", "fire")
    await bo.choose("hello", "fire")
    for person in (ada, bo):
        await expect(person.page.locator(".chip")).to_have_text(["🔥2"])
        await expect(person.page.locator(".chip")).to_have_attribute("aria-pressed", "true")
    await bo.page.locator(".chip").click()
    for person in (ada, bo):
        await expect(person.page.locator(".chip")).to_have_text(["🔥1"])
    await expect(bo.page.locator(".chip")).to_have_attribute("aria-pressed", "false")

    late = await arrive(open_page, room.url())
    await expect(late.texts).to_have_text(["hello"])
    await expect(late.messages.locator("small")).to_have_text("edited")
    await expect(late.page.locator(".chip")).to_have_text(["🔥1"])

    await ada.page.reload()
    await ada.here()  # under the same name
    await expect(ada.page.locator("#me")).to_have_text("Ada")
    await expect(ada.message("hello")).to_have_class(re.compile("own"))
    await ada.page.locator(".chip").click()  # it is hers, which no history tells
    await expect(bo.page.locator(".chip")).to_have_count(0)

    await ada.choose("hello", "Delete")
    for person in (ada, bo, late):
        await expect(person.messages).to_have_count(0)


async def test_others_messages_are_not_ones_own(room: Room, open_page: OpenPage) -> None:
    """Only one's own can be edited and deleted, and only a moderator may do more."""
    await room.say("from elsewhere")
    ada = await arrive(open_page, room.url(), "Ada")
    await ada.message("from elsewhere").hover()
    await ada.message("from elsewhere").locator(".more").click()
    await expect(ada.menu.get_by_role("button")).to_have_count(6)


async def test_typing(room: Room, open_page: OpenPage) -> None:
    """Who types is told to the others, not to them; it ends with the message, or when nothing is left."""
    ada, bo = await arrive(open_page, room.url(), "Ada"), await arrive(open_page, room.url(), "Bo")
    await ada.page.clock.install()  # it is the page that lets it expire
    await bo.page.locator("#text").press_sequentially("hi")
    await expect(ada.typing).to_have_text("Bo is typing …")
    await bo.page.press("#text", "Enter")
    await expect(ada.texts).to_have_text(["hi"])
    await expect(ada.typing).to_be_empty()
    await expect(bo.typing).to_be_empty()
    cy = await arrive(open_page, room.url(), "Cy")
    await cy.page.locator("#text").press_sequentially("w")
    await expect(ada.typing).to_have_text("Cy is typing …")
    await cy.page.fill("#text", "")
    await expect(ada.typing).to_be_empty()
    await room.call("typing", as_user="dee")
    await room.call("typing", as_user="eve")
    await expect(ada.typing).to_have_text("dee and eve are typing …")
    await ada.page.clock.fast_forward(6100)
    await expect(ada.typing).to_be_empty()


async def test_presence(room: Room, open_page: OpenPage) -> None:
    """People are counted, with or without a name; a reload does not flicker, a second tab is nobody else."""
    ada = await arrive(open_page, room.url(), "Ada")
    await expect(ada.present).to_have_text("1 person here")
    bo = await arrive(open_page, room.url())
    await expect(ada.present).to_have_text("2 people here")
    await bo.sign_in("Bo")  # who watched has become Bo
    await bo.say("I am Bo")
    await expect(ada.texts).to_have_text(["I am Bo"])
    await expect(ada.present).to_have_text("2 people here")
    await ada.page.evaluate(
        """() => {
            window.counts = [];
            const present = document.getElementById("present");
            new MutationObserver(() => counts.push(present.textContent))
                .observe(present, { childList: true, characterData: true, subtree: true });
        }"""
    )
    await bo.page.reload()
    await bo.here()
    await bo.say("I am back")
    await expect(ada.texts).to_have_text(["I am Bo", "I am back"])
    assert set(await ada.page.evaluate("window.counts")) <= {"2 people here"}
    await expect(bo.present).to_have_text("2 people here")


async def test_a_moderator_mutes(room: Room, open_page: OpenPage) -> None:
    """The muted are told at the composer until when, cannot send, also after a reload; until unmuted."""
    mod = await arrive(open_page, room.url(), "Mod", moderator=True)
    bo = await arrive(open_page, room.url(), "Bo")
    await bo.say("first")
    await mod.choose("first", "Mute for 10 min")
    await expect(mod.hint).to_have_text(re.compile(r"^Bo is muted until \d\d:\d\d$"))
    await bo.say("second")
    muted = re.compile(r"^you are muted until \d\d:\d\d:\d\d$")
    await expect(bo.hint).to_have_text(muted)
    await expect(bo.page.locator("#text")).to_have_value("second")
    await bo.page.reload()
    await expect(bo.hint).to_have_text(muted)
    await mod.choose("first", "Unmute")
    await expect(mod.hint).to_have_text("Bo may write again")
    await bo.say("third")
    await expect(mod.texts).to_have_text(["first", "third"])
    await expect(bo.hint).to_be_hidden()


async def test_a_moderator_bans(room: Room, open_page: OpenPage) -> None:
    """The banned get nothing more, and are told until when; then they are back."""
    mod = await arrive(open_page, room.url(), "Mod", moderator=True)
    bo = await arrive(open_page, room.url(), "Bo")
    await room.call("ban", user="bo", seconds=1)
    await expect(bo.hint).to_have_text(re.compile(r"^you are banned until"))
    await room.say("meanwhile")
    await expect(bo.texts).to_have_text(["meanwhile"])
    await expect(bo.hint).to_be_hidden()
    await bo.say("first")
    await mod.choose("first", "Ban for 10 min")
    await expect(bo.hint).to_have_text(re.compile(r"^you are banned until"))
    await expect(bo.present).to_be_empty()  # what would change it does not come any more
    await mod.say("they are gone")
    await expect(mod.texts).to_have_text(["meanwhile", "first", "they are gone"])
    await expect(mod.present).to_have_text("1 person here")
    await expect(bo.texts).to_have_text(["meanwhile", "first"])


async def test_a_moderator_purges(room: Room, open_page: OpenPage) -> None:
    """All messages of one go from all pages, the pinned one too, and stay away."""
    mod = await arrive(open_page, room.url(), "Mod", moderator=True)
    bo = await arrive(open_page, room.url(), "Bo")
    await room.say("something else")
    for text in ("one", "two", "three"):
        await bo.say(text)
        await expect(mod.message(text)).to_be_visible()
    await mod.choose("two", "Pin")
    for person in (mod, bo):
        await expect(person.page.locator("#pinned")).to_contain_text("Botwo")
    await expect(bo.page.locator("#unpin")).to_be_hidden()
    await mod.choose("one", "Delete")
    await expect(bo.texts).to_have_text(["something else", "two", "three"])

    await mod.message("three").hover()
    await mod.message("three").locator(".more").click()
    await mod.menu.get_by_role("button", name="Delete all of Bo").click()
    await expect(bo.messages).to_have_count(3)  # once is not enough
    await mod.menu.get_by_role("button", name="Really? Delete all of Bo").click()
    await expect(mod.hint).to_have_text("2 messages of Bo deleted")
    for person in (mod, bo):
        await expect(person.texts).to_have_text(["something else"])
        await expect(person.page.locator("#pinned")).to_be_hidden()
        await person.page.reload()
        await expect(person.texts).to_have_text(["something else"])


async def test_slow_mode(room: Room, open_page: OpenPage) -> None:
    """Who writes too soon sees how long to wait, counted down, and loses nothing."""
    await room.call("set_room", slow_seconds=30)
    ada = await arrive(open_page, room.url(), "Ada")
    await ada.page.clock.install()
    await ada.say("first")
    await expect(ada.texts).to_have_text(["first"])
    await ada.say("second")
    await expect(ada.hint).to_have_text(re.compile(r"^slow mode: wait (30|29) s$"))
    send = ada.page.get_by_role("button", name="Send")
    await expect(send).to_be_disabled()
    await ada.page.clock.fast_forward(10_000)
    await expect(ada.hint).to_have_text(re.compile(r"^slow mode: wait (20|19) s$"))
    await ada.page.clock.fast_forward(21_000)
    await expect(ada.hint).to_be_hidden()
    await expect(send).to_be_enabled()
    await expect(ada.page.locator("#text")).to_have_value("second")


async def test_everything_is_text(room: Room, open_page: OpenPage) -> None:
    """No name, message, reaction or title becomes markup."""
    mod = await arrive(open_page, room.url(), "<img onerror=fail()>", moderator=True)
    await mod.say(EVIL)
    await expect(mod.texts).to_have_text([EVIL])
    foreign = await room.say("<b>bold</b>", user=EVIL)
    await room.call("react", id=foreign, key="<img src=x onerror=f()>", as_user="eve")
    await room.call("set_room", title=EVIL)
    await room.call("typing", as_user=EVIL)
    other = await arrive(open_page, room.url(), "Bo")
    await room.call("pin", id=foreign)
    for person in (mod, other):
        await expect(person.texts).to_have_text([EVIL, "<b>bold</b>"])
        await expect(person.messages.locator("b")).to_have_text(["<img onerror=fail()>", EVIL])
        await expect(person.page.locator(".chip")).to_have_text(["<img src=x onerror=f()>1"])
        await expect(person.page.locator("#title")).to_have_text(EVIL)
        await expect(person.page.locator("#pinned")).to_contain_text("<b>bold</b>")
        await expect(person.page.locator("#chat img")).to_have_count(0)
    await expect(mod.typing).to_have_text(f"{EVIL} is typing …")


async def test_a_cut_leaves_the_room_right(room: Room, open_page: OpenPage) -> None:
    """What happened meanwhile to messages that are shown, and to the room, has happened afterwards."""
    ids = {text: await room.say(text) for text in ("kept", "edited", "deleted", "purged")}
    async with Proxy(room.node.port) as proxy:
        ada = await arrive(open_page, room.url(proxy.port), "Ada")
        await expect(ada.messages).to_have_count(4)
        proxy.close_door()
        await expect(ada.page.locator("#state span")).to_have_text("reconnecting")
        await room.call("react", id=ids["kept"], key="👍", as_user="bo")
        await room.call("edit", id=ids["edited"], text="changed")
        await room.call("delete", id=ids["deleted"])
        await room.call("pin", id=ids["kept"])
        await room.say("new")
        proxy.open_door()
        await state(ada.page, "connected")
        await expect(ada.texts).to_have_text(["kept", "changed", "purged", "new"])
        await expect(ada.page.locator(".chip")).to_have_text(["👍1"])
        await expect(ada.page.locator("#pinned")).to_contain_text("kept")
        await expect(ada.page.locator("#messages .notice")).to_have_count(0)
        await ada.say("still Ada")
        await expect(ada.message("still Ada").locator("b")).to_have_text("Ada")


async def test_older_messages(room: Room, open_page: OpenPage) -> None:
    """The newest page first, at its end; older ones on demand, without moving what is in sight."""
    for number in range(120):
        await room.say(f"number {number}")
    page = (await arrive(open_page, room.url())).page
    texts = page.locator("#messages .text")
    older = page.locator("#older")
    await expect(texts).to_have_count(50)
    await expect(texts.last).to_be_in_viewport()
    await texts.first.scroll_into_view_if_needed()
    place = "document.querySelector('#messages [data-place]').getBoundingClientRect().top"
    await texts.first.evaluate("text => { text.dataset.place = ''; }")
    before = await page.evaluate(place)
    await older.click()
    await expect(texts).to_have_count(100)
    assert abs(await page.evaluate(place) - before) < 30  # the button may go
    await older.click()
    await expect(texts).to_have_text([f"number {number}" for number in range(120)])
    await expect(older).to_be_hidden()
    await room.say("news")  # at the end, out of sight
    await page.get_by_role("button", name="newer messages").click()
    await expect(texts.last).to_have_text("news")
    await expect(texts.last).to_be_in_viewport()


async def test_the_menu_by_keyboard(room: Room, open_page: OpenPage) -> None:
    """It opens, is walked and left by keys; meanwhile the list keeps its place, then goes on."""
    ada = await arrive(open_page, room.url(), "Ada")
    await ada.say("mine")
    more = ada.message("mine").locator(".more")
    await more.focus()
    await ada.page.keyboard.press("Enter")
    await expect(ada.menu.get_by_role("button", name="thumbs up")).to_be_focused()
    for number in range(40):
        await room.say(f"number {number}")
    await expect(ada.messages).to_have_count(41)
    await expect(ada.message("mine")).to_be_in_viewport()
    await ada.page.keyboard.press("ArrowUp")
    await expect(ada.menu.get_by_role("button", name="Delete")).to_be_focused()
    await ada.page.keyboard.press("Escape")
    await expect(ada.menu).to_be_hidden()
    await expect(more).to_be_focused()
    await expect(ada.messages.last).to_be_in_viewport()


async def test_a_name_that_is_none(room: Room, open_page: OpenPage) -> None:
    """It is refused with a reason; another may be chosen, and changed later."""
    ada = await arrive(open_page, room.url())
    page = ada.page
    await page.fill("#name", "!")
    await page.press("#name", "Enter")
    await expect(ada.hint).to_have_text("not done: a name has at least one letter or digit")
    await ada.sign_in("Ada")
    await page.get_by_role("button", name="You are Ada").click()
    await page.get_by_role("button", name="Stay who you are").click()
    await page.get_by_role("button", name="You are Ada").click()
    await ada.sign_in("Countess", moderator=True)
    await ada.say("hello")
    await expect(ada.messages.locator("b")).to_have_text("Countess")


async def test_a_new_secret(
    room: Room, start_node: StartNode, redis_process: RedisProcess, open_page: OpenPage
) -> None:
    """When the node no longer knows the token, the page gets another by itself: demos are restarted."""
    settings = page_settings() | {"tokens": {"hmac_secrets": ["another secret of the tests"]}}
    other = await start_node(redis_process.url, settings)
    async with Proxy(room.node.port) as proxy:
        ada = await arrive(open_page, room.url(proxy.port), "Ada")
        proxy.close_door()
        await state(ada.page, "connecting")
        proxy.target = other.port
        proxy.open_door()
        await state(ada.page, "connected")
        await ada.say("still Ada")
        await expect(ada.message("still Ada").locator("b")).to_have_text("Ada")


async def test_long_words_fit(room: Room, open_page: OpenPage) -> None:
    """Whatever is said, a phone's screen is wide enough."""
    page = await open_page(room.url())
    await page.set_viewport_size({"width": 390, "height": 844})
    ada = Person(page)
    await ada.here()
    await ada.sign_in("W" * 24, moderator=True)
    await ada.say("W" * 200)
    await room.call("set_room", title="T" * 200)
    said = await room.say("x" * 300, user="y" * 100)
    await room.call("react", id=said, key="r" * 32, as_user="bo")
    await room.call("pin", id=said)
    await expect(page.locator(".chip")).to_have_count(1)
    await expect(page.locator("#pinned")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    assert await page.evaluate(
        "(list => list.scrollWidth <= list.clientWidth)(document.querySelector('#messages'))"
    )
