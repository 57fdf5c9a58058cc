"""chat.messages, sending: one entry for each message, whatever is repeated; none from those who may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.channels import Namespace
from service.errors import CommandFailed, ReplyError, Unavailable
from service.streams.position import parse_id, to_offset
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.chat import CHAT, PREFIX, Node, Person, chat_node, entries

Name = Callable[[str], str]


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


async def _keys(redis: Redis, channel: str) -> set[bytes]:
    return {key async for key in redis.scan_iter(f"*{channel}*")}


async def test_a_message_is_an_entry(node: Node, redis: Redis, name: Name) -> None:
    """It says what it is, and who wrote it; the answer tells where and when. Nothing else is left behind."""
    channel = name("chat")
    ann = Person(node, channel, "ann", client="c1")
    result = await ann.call("send", text="hello", reply_to="17-0")
    ((entry_id, fields),) = (await entries(redis, channel)).items()
    position = parse_id(entry_id)
    assert result == {"id": entry_id.decode(), "offset": to_offset(position), "time": position[0]}
    assert orjson.loads(fields[b"data"]) == {"type": "message", "text": "hello", "reply_to": "17-0"}
    assert orjson.loads(fields[b"_info"]) == {"user": "ann", "client": "c1"}
    assert len(await _keys(redis, channel)) == 1
    assert node.sample("chat_commands_total", command="send") == 1
    assert node.sample("published_total", namespace="chat") == 1


async def test_a_body_instead_of_text(node: Node, redis: Redis, name: Name) -> None:
    """Any object, digit by digit."""
    channel = name("chat")
    await Person(node, channel, "ann").call("send", body={"stroke": [1, 2.5], "": None})
    (entry,) = (await entries(redis, channel)).values()
    assert entry[b"data"] == b'{"type":"message","body":{"stroke":[1,2.5],"":null}}'


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, "either text"),
        ({"text": ""}, "either text"),
        ({"text": "a", "body": {}}, "either text"),
        ({"text": 1}, "text must be a string"),
        ({"body": [1]}, "body must be an object"),
        ({"text": "a", "reply_to": "1"}, "reply_to must be the id"),
        ({"text": "a", "reply_to": "01-0"}, "reply_to must be the id"),
        ({"text": "a", "reply_to": "1-0\n"}, "reply_to must be the id"),
        ({"text": "a", "nonce": "n" * 65}, "nonce has at most 64 characters, not 65"),
        ({"text": "a", "nonce": "a\nb"}, "nonce has no control characters"),
        ({"text": "a", "channel": ""}, "channel is required"),
    ],
)
async def test_what_is_no_message(parameters: dict[str, Any], why: str, node: Node, name: Name) -> None:
    """Each refusal names what is wrong."""
    with pytest.raises(ReplyError, match=why) as caught:
        await Person(node, name("chat"), "ann").call("send", **parameters)
    assert caught.value.code == 107


async def test_too_large(node: Node, name: Name) -> None:
    """The namespace's bound, or the node's."""
    small = Person(node, name("chat"), "ann", namespace=Namespace(chat=True, publication_bytes=40))
    await small.say("x" * 10)
    with pytest.raises(ReplyError, match="128 bytes, 40 are allowed") as caught:
        await small.say("x" * 100)
    assert caught.value.code == 106
    with pytest.raises(ReplyError, match="65536 are allowed"):
        await Person(node, name("chat"), "ann").say("x" * 65_536)


async def test_only_where_there_is_chat(node: Node, name: Name) -> None:
    """108 in other namespaces, 103 where the namespace lets nobody write."""
    with pytest.raises(ReplyError, match="chat is not enabled") as caught:
        await Person(node, name("log"), "ann", namespace=Namespace()).say("a")
    assert caught.value.code == 108
    with pytest.raises(ReplyError) as caught:
        await Person(node, name("chat"), "ann", denied=frozenset({"publish"})).say("a")
    assert caught.value.code == 103


async def test_sending_trims(node: Node, redis: Redis, name: Name) -> None:
    """About to the namespace's size."""
    channel = name("chat")
    ann = Person(node, channel, "ann", namespace=Namespace(chat=True, history_size=100))
    await asyncio.gather(*(ann.say("a") for _ in range(1000)))
    assert 100 <= await redis.xlen(PREFIX + channel) <= 300


async def test_nothing_else_gets_in(node: Node, redis: Redis, name: Name) -> None:
    """What the client adds is left out: it cannot pass for a moderator's event, nor for another user."""
    channel = name("chat")
    forged = {"type": "purge", "user": "bob", "ids": ["1-0"], "_drop": "1-0"}
    await Person(node, channel, "ann").call("send", text="a", nonce="n", **forged)
    (entry,) = (await entries(redis, channel)).values()
    assert entry[b"data"] == b'{"type":"message","text":"a","nonce":"n"}'
    assert entry.keys() == {b"data", b"_info"}


# Nonces


async def test_a_nonce_makes_one_message(redis_process: RedisProcess, redis: Redis, name: Name) -> None:
    """Twenty at the same time through two nodes: one entry, and all learn its id."""
    channel = name("chat")
    async with chat_node(redis_process.url) as one, chat_node(redis_process.url) as two:
        people = [Person(node, channel, "ann", client=f"{i}") for i, node in enumerate([one, two] * 10)]
        results = await asyncio.gather(*(p.call("send", text="once", nonce="n1") for p in people))
        (entry,) = (await entries(redis, channel)).values()
        assert orjson.loads(entry[b"data"])["nonce"] == "n1"
        assert len({result["id"] for result in results}) == 1
        assert sum(result.get("duplicate", False) for result in results) == 19
        assert {result["nonce"] for result in results} == {"n1"}
        duplicates = [node.sample("chat_duplicates_total") for node in (one, two)]
        assert sum(value or 0 for value in duplicates) == 19


async def test_a_nonce_is_its_authors(node: Node, redis: Redis, name: Name) -> None:
    """And the room's; the anonymous are told apart by their connection. It is forgotten after 5 minutes."""
    channel, other = name("chat"), name("chat")
    people = [
        Person(node, channel, "ann"),
        Person(node, channel, "bob"),
        Person(node, other, "ann"),
        Person(node, channel, "", client="c1"),
        Person(node, channel, "", client="c2"),
        Person(node, channel, "c1"),
    ]
    for person in people:
        assert "duplicate" not in await person.call("send", text="a", nonce="n")
        assert (await person.call("send", text="another", nonce="n"))["duplicate"] is True
    (key,) = await _keys(redis, other) - {(PREFIX + other).encode()}
    assert 290_000 < await redis.pttl(key) <= 300_000


async def test_sent_again_when_the_answer_is_lost(
    redis_process: RedisProcess, redis: Redis, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a nonce, and then it is one message; without one it is the client's to decide."""
    channel = name("chat")
    async with chat_node(redis_process.url) as node:
        ann = Person(node, channel, "ann")
        script = node.commands.script
        losses = 1

        async def lossy(*args: Any) -> Any:
            nonlocal losses
            reply = await script(*args)
            if losses:
                losses -= 1
                raise Unavailable("lost")
            return reply

        monkeypatch.setattr(node.commands, "script", lossy)
        assert (await ann.call("send", text="a", nonce="n"))["duplicate"] is True
        assert len(await entries(redis, channel)) == 1
        losses = 1
        with pytest.raises(Unavailable):
            await ann.say("b")


async def test_without_redis(start_redis: Callable[..., RedisProcess], name: Name) -> None:
    """The sender learns it soon, nonce or not."""
    process = start_redis()
    async with chat_node(process.url) as node:
        process.kill()
        for parameters in ({"text": "a"}, {"text": "a", "nonce": "n"}):
            with pytest.raises(Unavailable):
                await Person(node, name("chat"), "ann").call("send", **parameters)


async def test_what_redis_refuses(node: Node, redis: Redis, name: Name) -> None:
    """A key of another type is told, and is no message."""
    channel = name("chat")
    await redis.set(PREFIX + channel, "x")
    with pytest.raises(CommandFailed, match="WRONGTYPE"):
        await Person(node, channel, "ann").say("a")
    assert node.sample("published_total", namespace="chat") is None


# Who may not


async def test_those_who_must_not(node: Node, redis: Redis, name: Name) -> None:
    """The banned, the muted, the hasty: each is told when it ends. A message accepted before stays so."""
    channel = name("chat")
    ann = Person(node, channel, "ann")
    first = await ann.call("send", text="a", nonce="n")
    seconds, micros = await redis.time()
    now = seconds * 1000 + micros // 1000
    for kind, word in (("mutes", "muted"), ("bans", "banned")):
        key = f"streamgate:chat-{kind}:{{{PREFIX}{channel}}}"
        await redis.zadd(key, {"ann": now - 1})
        await ann.say("over")
        await redis.zadd(key, {"ann": now + 60_000})
        with pytest.raises(ReplyError, match=rf"{word} until \d{{4}}-.* UTC") as caught:
            await ann.say("b")
        assert caught.value.code == 103
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 61
        await redis.zadd(key, {"ann": (1 << 53) - 1})
        with pytest.raises(ReplyError, match=f"{word} for ever") as caught:
            await ann.say("b")
        assert caught.value.retry_after is None
        await redis.zadd(key, {"ann": now - 1})
    assert (await ann.call("send", text="a", nonce="n"))["id"] == first["id"]
    await Person(node, channel, "bob").say("c")
    await Person(node, channel, "ann", moderates=True).say("d")
    await ann.say("e")
    assert len(await entries(redis, channel)) == 6


async def test_slow_mode(node: Node, redis: Redis, name: Name) -> None:
    """One message in so many seconds from each; not for those who have a role."""
    channel = name("chat")
    room = f"streamgate:chat-room:{{{PREFIX}{channel}}}"
    await redis.hset(room, mapping={"slow": 30, "role:mod": "moderator"})
    ann = Person(node, channel, "ann", namespace=CHAT)
    accepted = await ann.call("send", text="a", nonce="n")
    with pytest.raises(ReplyError, match="slow mode") as caught:
        await ann.say("b")
    assert caught.value.code == 111
    assert caught.value.temporary
    assert caught.value.retry_after is not None
    assert 29 < caught.value.retry_after <= 30
    assert (await ann.call("send", text="a", nonce="n"))["id"] == accepted["id"]
    await Person(node, channel, "bob").say("c")
    for _ in range(2):
        await Person(node, channel, "mod").say("d")
        await Person(node, channel, "ann", moderates=True).say("e")
    assert len(await entries(redis, channel)) == 6
