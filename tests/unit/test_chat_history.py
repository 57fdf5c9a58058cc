"""chat.history: pages of messages by id, bounded, and honest about what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.channels import Namespace
from service.chat import history
from service.streams.position import MAX_MS
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.chat import PREFIX, Node, Person, chat_node

Name = Callable[[str], str]


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


async def _fill(redis: Redis, channel: str, *entries: tuple[int, str]) -> None:
    """Messages, and events where the text is empty."""
    pipeline = redis.pipeline(transaction=False)
    for ms, text in entries:
        fields: dict[Any, Any] = {"text": text} if text else {"type": "reaction"}
        pipeline.xadd(PREFIX + channel, fields, id=f"{ms}-0")
    await pipeline.execute()


def _texts(page: dict[str, Any]) -> str:
    return "".join(message["data"]["text"] for message in page["messages"])


async def _all(person: Person, direction: str, position: str, limit: int) -> list[str]:
    """Pages, as a client walks through them."""
    pages = []
    while True:
        page = await person.call("history", limit=limit, **({direction: position} if position else {}))
        pages.append(_texts(page))
        assert len(pages) < 100
        if "next" not in page:
            return pages
        position = page["next"]


@pytest.mark.parametrize(
    ("direction", "position", "limit", "pages"),
    [
        ("before", "", 50, ["edcba"]),
        ("before", "", 2, ["ed", "cb", "a"]),
        ("before", "4-0", 50, ["cba"]),
        ("before", "1-0", 50, [""]),
        ("after", "0-0", 50, ["abcde"]),
        ("after", "0-0", 2, ["ab", "cd", "e"]),
        ("after", "2-0", 1, ["c", "d", "e", ""]),
        ("after", "5-0", 50, [""]),
    ],
)
async def test_pages(
    direction: str, position: str, limit: int, pages: list[str], node: Node, redis: Redis, name: Name
) -> None:
    """Backwards newest first, forwards oldest first; the next one begins where the last one ended."""
    channel = name("chat")
    # The last event stands behind the last message, so that a page of one cannot know that it was the last.
    await _fill(redis, channel, (1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, ""))
    assert await _all(Person(node, channel, "ann"), direction, position, limit) == pages


@pytest.mark.parametrize(("direction", "position"), [("before", ""), ("after", "0-0")])
async def test_a_page_that_is_full_before_all_was_looked_at(
    direction: str, position: str, node: Node, redis: Redis, name: Name
) -> None:
    """What was read beyond it begins the next page, though the stream holds no more than that."""
    channel = name("chat")
    await _fill(redis, channel, (1, "a"), (2, "b"), (3, ""), (4, "c"), (5, "d"))
    pages = await _all(Person(node, channel, "ann"), direction, position, 3)
    assert pages == (["dcb", "a"] if direction == "before" else ["abc", "d"])


async def test_an_empty_room(node: Node, name: Name) -> None:
    """No messages, no next page, no gap."""
    ann = Person(node, name("chat"), "ann")
    assert await ann.call("history") == {"messages": []}
    assert await ann.call("history", after="0-0") == {"messages": []}


async def test_events_are_passed_over(
    node: Node, redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a page may look; then there is a next one, though this is not full."""
    monkeypatch.setattr(history, "MAX_SCAN", 10)
    channel = name("chat")
    events = [(ms, "") for ms in range(2, 30)]
    await _fill(redis, channel, (1, "a"), *events, (30, "b"))
    ann = Person(node, channel, "ann")
    page = await ann.call("history", limit=2)
    assert (_texts(page), page["next"]) == ("b", "21-0")
    assert await _all(ann, "before", "", 2) == ["b", "", "a", ""]
    assert await _all(ann, "after", "0-0", 2) == ["a", "", "b", ""]


async def test_a_page_is_not_too_large(node: Node, redis: Redis, name: Name) -> None:
    """Edits count as they are now; the rest comes with the next page. Of pins the newest are shown."""
    channel = name("chat")
    ann, app = Person(node, channel, "ann"), Person(node, channel, "", moderates=True)
    ids = [await ann.say("x") for _ in range(6)]
    for message in ids:
        await ann.call("edit", id=message, text="x" * 65_000)
        await app.call("pin", id=message)
    page = await ann.call("history")
    assert [message["id"] for message in page["messages"]] == ids[:1:-1]
    assert page["next"] == ids[2]
    rest = await ann.call("history", before=page["next"])
    assert [message["id"] for message in rest["messages"]] == ids[1::-1]
    assert "next" not in rest
    assert [pin["id"] for pin in (await ann.call("room"))["pins"]] == ids[2:]


async def test_one_message_is_given_in_any_case(
    node: Node, redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large: a client must get past it."""
    monkeypatch.setattr(history, "PAGE_BYTES", 10)
    channel = name("chat")
    ann = Person(node, channel, "ann")
    await ann.say("b")
    await ann.say("a")
    assert await _all(ann, "before", "", 50) == ["a", "b"]


async def test_what_cannot_be_delivered_is_passed_over(node: Node, redis: Redis, name: Name) -> None:
    """It is no message to anybody."""
    channel = name("chat")
    for data in ("no JSON", "[1]", '"text"', '{"type":null}', "{" + " " * 70_000 + "}"):
        await redis.xadd(PREFIX + channel, {"data": data})
    await redis.xadd(PREFIX + channel, {"text": "a"})
    assert _texts(await Person(node, channel, "ann").call("history")) == "a"


async def test_limited(node: Node, redis: Redis, name: Name) -> None:
    """Where something after the position is gone; not where it was deleted on purpose."""
    channel = name("chat")
    ann = Person(node, channel, "ann")
    first = await ann.say("a")
    ids = [await ann.say(text) for text in "bcd"]
    await ann.call("delete", id=ids[0])
    assert "limited" not in await ann.call("history", after=first)
    assert "limited" not in await ann.call("history", after=ids[0])
    await redis.xtrim(PREFIX + channel, maxlen=1, approximate=False)  # the event of the deletion is left
    page = await ann.call("history", after=first)
    assert (page["limited"], page["messages"]) == (True, [])
    assert "limited" not in await ann.call("history", after="0-0")  # all there is
    assert "limited" not in await ann.call("history", before=first)
    # A position that is ahead of the stream: the room's past is another one.
    assert (await ann.call("history", after="9999999999999-0"))["limited"] is True


async def test_what_is_too_old(node: Node, redis: Redis, name: Name) -> None:
    """A quiet stream is not trimmed for long; it is not shown all the same, since edits of it may be lost."""
    channel = name("chat")
    seconds, _ = await redis.time()
    old = f"{seconds * 1000 - 3_700_000}-0"
    await redis.xadd(PREFIX + channel, {"text": "a"}, id=old)
    namespace = Namespace(chat=True, history_ttl=3600)
    ann = Person(node, channel, "ann", namespace=namespace)
    await ann.say("b")
    await ann.say("c")
    assert await _all(ann, "before", "", 50) == ["cb"]
    assert await _all(ann, "after", "0-0", 50) == ["bc"]
    assert (await ann.call("history", after=old))["limited"] is True
    assert await _all(Person(node, channel, "ann"), "before", "", 50) == ["cba"]


async def test_parameters(node: Node, redis: Redis, name: Name) -> None:
    """Each is bounded; ids no client offset can hold are refused."""
    channel = name("chat")
    ann = Person(node, channel, "ann")
    for limit in (0, 101, -1):
        code, _ = await ann.refused("history", limit=limit)
        assert code == 107
    assert await ann.refused("history", limit=101) == (107, "limit must be an integer from 1 to 100")
    assert await ann.refused("history", before="1-0", after="1-0") == (
        107,
        "either before or after, not both",
    )
    assert (await ann.refused("history", before="1"))[0] == 107
    denied = Person(node, channel, "ann", denied=frozenset({"history"}))
    for method in ("history", "room", "reads", "read", "banned", "audit"):
        assert (await denied.refused(method))[0] == 103
    await redis.xadd(PREFIX + channel, {"text": "a"}, id=f"{MAX_MS}-0")
    assert (await ann.refused("history"))[0] == 108


async def test_not_for_the_banned(node: Node, redis: Redis, name: Name) -> None:
    """They see what they are, and nothing of the room's messages."""
    channel = name("chat")
    ann, app = Person(node, channel, "ann"), Person(node, channel, "", moderates=True)
    message = await ann.say("a")
    await app.call("pin", id=message)
    until = (await app.call("ban", user="ann", seconds=60))["until"]
    code, why = await ann.refused("history")
    assert (code, why[:13]) == (103, "banned until ")
    room = await ann.call("room")
    assert (room["banned_until"], room["pins"], room["role"]) == (until, [], "member")


async def test_the_room(node: Node, name: Name) -> None:
    """What it is like, and what the caller is in it."""
    channel = name("chat")
    ann, app = Person(node, channel, "ann"), Person(node, channel, "", moderates=True)
    assert await ann.call("room") == {"slow_seconds": 0, "role": "member", "pins": []}
    await app.call("set_room", title="T", topic="t", slow_seconds=5)
    until = (await app.call("mute", user="ann", seconds=60))["until"]
    assert await ann.call("room") == {
        "title": "T",
        "topic": "t",
        "slow_seconds": 5,
        "role": "member",
        "muted_until": until,
        "pins": [],
    }
    await app.call("set_role", user="ann", role="moderator")
    assert (await ann.call("room"))["role"] == "moderator"
    assert (await app.call("room"))["role"] == "owner"
