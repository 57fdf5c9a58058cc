"""chat.messages: what becomes of a message stands beside it, and nothing of a deleted one is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.channels import Namespace
from service.chat import messages as messages_module
from service.chat.messages import MAX_EDITS, MAX_PINS, MAX_REACTIONS
from service.chat.room import MESSAGE_TTL
from tests.support.redis_process import RedisProcess
from tests.unit.fakes.chat import PREFIX, Node, Person, chat_node, entries, keys_beside, produce

Name = Callable[[str], str]


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess) -> AsyncIterator[Node]:
    async with chat_node(redis_process.url) as node:
        yield node


async def _events(redis: Redis, channel: str) -> list[dict[str, Any]]:
    """What stands in the stream beside messages, oldest first; `_drop` and `_id` with it."""
    found = []
    for entry_id, fields in (await entries(redis, channel)).items():
        data = orjson.loads(fields.get(b"data", b"{}"))
        if data.get("type", "message") != "message":
            drop = {"_drop": fields[b"_drop"].decode().split()} if b"_drop" in fields else {}
            found.append({**data, **drop, "_id": entry_id.decode()})
    return found


async def _only(person: Person) -> dict[str, Any]:
    (message,) = (await person.call("history"))["messages"]
    assert isinstance(message, dict)
    return message


class Room:
    """People in a room."""

    def __init__(self, node: Node, channel: str, namespace: Namespace) -> None:
        def person(user: str, *, moderates: bool = False) -> Person:
            return Person(node, channel, user, namespace=namespace, moderates=moderates)

        self.channel = channel
        self.ann, self.bob, self.nobody = person("ann"), person("bob"), person("")
        self.mod, self.app = person("mod"), person("", moderates=True)


@pytest_asyncio.fixture
async def room(node: Node, name: Name) -> Room:
    room = Room(node, name("chat"), Namespace(chat=True))
    await room.app.call("set_role", user="mod", role="moderator")
    return room


# Edits


async def test_an_edit(room: Room, redis: Redis) -> None:
    """The history has the new text and the rest as it was; the room is told; text may become a body."""
    first = await room.ann.call("send", text="one", reply_to="5-0", nonce="n")
    edited = await room.ann.call("edit", id=first["id"], text="uno")
    (event,) = await _events(redis, room.channel)
    assert event == {"type": "edit", "id": first["id"], "text": "uno", "_id": event["_id"]}
    assert edited == {"edited": int(event["_id"].partition("-")[0])}
    assert await _only(room.bob) == {
        "id": first["id"],
        "offset": first["offset"],
        "time": first["time"],
        "user": "ann",
        "info": {"user": "ann", "client": "client of ann"},
        "data": {"type": "message", "text": "uno", "reply_to": "5-0", "nonce": "n"},
        "edited": edited["edited"],
        "edited_by": "ann",
    }
    await room.ann.call("edit", id=first["id"], body={"a": 1})
    assert (await _only(room.bob))["data"] == {
        "type": "message",
        "body": {"a": 1},
        "reply_to": "5-0",
        "nonce": "n",
    }


async def test_so_many_edits(room: Room, redis: Redis) -> None:
    """And no more: their events go when the message is deleted, all at once."""
    message = await room.ann.say("one")
    for number in range(MAX_EDITS):
        await room.ann.call("edit", id=message, text=f"{number}")
    assert await room.mod.refused("edit", id=message, text="x") == (
        106,
        "a message is edited at most 50 times",
    )
    events = await _events(redis, room.channel)
    assert [event["text"] for event in events] == [f"{number}" for number in range(MAX_EDITS)]
    await room.ann.call("delete", id=message)
    (deleted,) = await _events(redis, room.channel)
    assert deleted["_drop"] == [message, *(event["_id"] for event in events)]


async def test_who_may_edit(room: Room, redis: Redis) -> None:
    """The author, and moderators, whose hand is seen and on record."""
    message = await room.ann.say("one")
    code, why = await room.bob.refused("edit", id=message, text="b")
    assert (code, why) == (103, "only its author or a moderator may edit a message")
    assert await room.nobody.refused("edit", id=message, text="b") == (103, "sign in to edit messages")
    await room.ann.call("edit", id=message, text="mine")
    await room.mod.call("edit", id=message, text="moderated")
    said = await _only(room.bob)
    assert (said["user"], said["edited_by"], said["data"]["text"]) == ("ann", "mod", "moderated")
    await room.app.call("edit", id=message, text="by the application")
    acts = (await room.app.call("audit"))["acts"]
    assert [(act["what"], act.get("who"), act["whom"]) for act in acts[:2]] == [
        ("edit", None, "ann"),
        ("edit", "mod", "ann"),
    ]
    assert len(acts) == 3
    # A message without a known author is nobody's.
    said_by_nobody = await room.nobody.say("boo")
    assert (await room.bob.refused("edit", id=said_by_nobody, text="b"))[0] == 103


async def test_what_cannot_be_edited(room: Room, redis: Redis) -> None:
    """What is not there, and what is no message but an event or a foreign entry of another kind."""
    message = await room.ann.say("one")
    await room.ann.call("edit", id=message, text="two")
    (event,) = await _events(redis, room.channel)
    others = [event["_id"], "1-0"]
    for data in ("[1]", "no JSON", '{"type":null}'):
        others.append(await produce(redis, room.channel, data=data))
    others.append(await produce(redis, room.channel, type="goal", user="ann"))
    others.append(await produce(redis, room.channel, _tags="{}"))
    for each in others:
        for method, more in (("edit", {"text": "x"}), ("delete", {}), ("react", {"key": "+"}), ("pin", {})):
            assert await room.mod.refused(method, id=each, **more) == (404, f"there is no message {each}")
    assert (await room.ann.refused("edit", id=message, text=""))[0] == 107
    assert (await room.ann.refused("edit", id="x", text="a"))[0] == 107
    assert (await room.ann.refused("edit", id=message, text="x" * 65_536))[0] == 106


async def test_foreign_messages(room: Room, redis: Redis) -> None:
    """What a producer writes without a type is a message, by the user that it names."""
    flat = await produce(redis, room.channel, user="ann", text="one")
    data = await produce(redis, room.channel, data='{"user":"ann","text":"two"}')
    for message in (flat, data):
        assert (await room.bob.refused("edit", id=message, text="x"))[0] == 103
        await room.ann.call("edit", id=message, text="mine")
    messages = (await room.bob.call("history"))["messages"]
    assert [(m["user"], m["data"]) for m in messages] == [("ann", {"user": "ann", "text": "mine"})] * 2
    # Who was let in by a node is known for sure; what the data says of it counts for nothing.
    info = '{"user":"bob","client":"c"}'
    forged = await produce(redis, room.channel, data='{"user":"ann","text":"three"}', _info=info)
    assert (await room.ann.refused("edit", id=forged, text="x"))[0] == 103
    await room.bob.call("edit", id=forged, text="x")


# Deletion


async def test_deleting(room: Room, redis: Redis) -> None:
    """The message goes, its edits, what stood beside it and its pin; all nodes learn what to forget."""
    message, other = await room.ann.say("one"), await room.ann.say("two")
    await room.ann.call("edit", id=message, text="uno")
    await room.bob.call("react", id=message, key="+1")
    await room.mod.call("pin", id=message)
    edit, *others = await _events(redis, room.channel)
    await room.ann.call("delete", id=message)
    *left, deleted = await _events(redis, room.channel)
    assert left == others
    assert deleted["type"] == "delete"
    assert deleted["id"] == message
    assert deleted["_drop"] == [message, edit["_id"]]
    assert (await _only(room.bob))["id"] == other
    assert (await room.bob.call("room"))["pins"] == []
    assert await keys_beside(redis, room.channel) == {"chat-room:"}
    assert await room.ann.refused("delete", id=message) == (404, f"there is no message {message}")


async def test_who_may_delete(room: Room) -> None:
    """The author, even when muted, and moderators, with a reason on record; not the banned."""
    first, second, third = [await room.ann.say(text) for text in "abc"]
    code, why = await room.bob.refused("delete", id=first)
    assert (code, why) == (103, "only its author or a moderator may delete a message")
    assert await room.nobody.refused("delete", id=first) == (103, "sign in to delete messages")
    await room.mod.call("delete", id=first, reason="spam")
    act = (await room.app.call("audit", limit=1))["acts"][0]
    assert {name: act[name] for name in ("who", "what", "whom", "message", "reason")} == {
        "who": "mod",
        "what": "delete",
        "whom": "ann",
        "message": first,
        "reason": "spam",
    }
    await room.mod.call("mute", user="ann")
    await room.ann.call("delete", id=second)
    await room.mod.call("ban", user="ann")
    assert await room.ann.refused("delete", id=third) == (103, "banned for ever")


# Reactions


async def test_reactions(room: Room, redis: Redis) -> None:
    """One of each kind from each user, counted; what changes nothing tells nobody."""
    message = await room.ann.say("one")
    assert await room.ann.call("react", id=message, key="👍") == {"counts": {"👍": 1}}
    assert await room.bob.call("react", id=message, key="👍") == {"counts": {"👍": 2}}
    before = await _events(redis, room.channel)
    assert await room.bob.call("react", id=message, key="👍") == {"counts": {"👍": 2}}
    assert await room.bob.call("react", id=message, key="x", remove=True) == {"counts": {"👍": 2}}
    assert await _events(redis, room.channel) == before
    assert await room.bob.call("react", id=message, key='"/') == {"counts": {"👍": 2, '"/': 1}}
    assert (await _only(room.bob))["reactions"] == {"👍": 2, '"/': 1}
    for person in (room.ann, room.bob):
        await person.call("react", id=message, key="👍", remove=True)
    assert await room.bob.call("react", id=message, key='"/', remove=True) == {"counts": {}}
    assert "reactions" not in await _only(room.bob)
    event = (await _events(redis, room.channel))[-1]
    assert event == {
        "type": "reaction",
        "id": message,
        "key": '"/',
        "user": "bob",
        "action": "remove",
        "counts": {},
        "_id": event["_id"],
    }


async def test_reactions_do_not_crowd_out_messages(
    room: Room, redis: Redis, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later events of a message take the place of those that all nodes have read."""
    messages = [await room.ann.say("one"), await room.ann.say("two")]
    people = [Person(node, room.channel, f"user{number}") for number in range(30)]
    for person in people[:20]:
        for message in messages:
            await person.call("react", id=message, key="+1")
    fresh = await _events(redis, room.channel)
    assert len(fresh) == 40
    assert not any("_drop" in event for event in fresh)
    monkeypatch.setattr(messages_module, "VOID_AFTER_MS", 0)  # they have got old
    monkeypatch.setattr(messages_module, "MAX_VOID", 8)  # not all at once
    dropped = []
    for person in people[20:]:
        await person.call("react", id=messages[0], key="+1")
        newest = (await _events(redis, room.channel))[-1]
        assert newest["counts"]["+1"] > 20
        dropped += newest["_drop"]
    left = await _events(redis, room.channel)
    assert {event["id"] for event in left[:20]} == {messages[1]}
    assert [(event["id"], event["counts"]) for event in left[20:]] == [(messages[0], {"+1": 30})]
    mine = [event["_id"] for event in fresh if event["id"] == messages[0]]
    assert dropped[:20] == mine
    assert len(dropped) == 29


async def test_bounds_of_reactions(room: Room) -> None:
    """So many different ones, of so many characters, from known users."""
    message = await room.ann.say("one")
    for number in range(MAX_REACTIONS):
        await room.ann.call("react", id=message, key=f"{number}")
    assert await room.bob.refused("react", id=message, key="more") == (
        106,
        "a message has at most 20 different reactions",
    )
    assert (await room.bob.call("react", id=message, key="7"))["counts"]["7"] == 2
    assert (await room.bob.refused("react", id=message, key="x" * 33))[0] == 107
    assert (await room.bob.refused("react", id=message, key="a\nb"))[0] == 107
    assert await room.bob.refused("react", id=message) == (107, "key is required")
    assert await room.nobody.refused("react", id=message, key="+1") == (103, "sign in to react")
    # The application has no name of its own to react under.
    assert (await room.app.refused("react", id=message, key="+1"))[0] == 103


# Pins


async def test_pins(room: Room, redis: Redis) -> None:
    """Moderators pin; the room shows pins, oldest first, as they are now."""
    first, second = await room.ann.say("one"), await room.bob.say("two")
    assert await room.ann.refused("pin", id=first) == (103, "only moderators of the room may do this")
    for message in (second, first, first):
        await room.mod.call("pin", id=message)
    await room.ann.call("edit", id=first, text="uno")
    pins = (await room.ann.call("room"))["pins"]
    assert [pin["data"]["text"] for pin in pins] == ["uno", "two"]
    assert pins == (await room.ann.call("history", after="0-0"))["messages"]
    assert all(pin["pinned"] for pin in pins)
    await room.mod.call("unpin", id=second)
    assert await room.mod.refused("unpin", id=second) == (404, f"message {second} is not pinned")
    assert [pin["id"] for pin in (await room.ann.call("room"))["pins"]] == [first]
    events = await _events(redis, room.channel)
    assert [(event["type"], event["id"]) for event in events if event["type"] != "edit"] == [
        ("pin", second),
        ("pin", first),
        ("unpin", second),
    ]


async def test_a_pin_outlives_the_stream(room: Room, redis: Redis) -> None:
    """Rules of the house stay pinned however much is said after them, and can be unpinned."""
    message = await room.ann.say("be kind")
    await room.ann.call("edit", id=message, text="be kind!")
    await room.mod.call("pin", id=message)
    await redis.xtrim(PREFIX + room.channel, maxlen=0, approximate=False)
    (pin,) = (await room.bob.call("room"))["pins"]
    assert (pin["id"], pin["data"]["text"]) == (message, "be kind!")
    await room.mod.call("unpin", id=message)
    assert (await room.bob.call("room"))["pins"] == []


async def test_so_many_pins(room: Room) -> None:
    """And no more, until one is unpinned."""
    messages = [await room.ann.say("a") for _ in range(MAX_PINS + 1)]
    for message in messages[:-1]:
        await room.mod.call("pin", id=message)
    assert await room.mod.refused("pin", id=messages[-1]) == (106, "at most 50 messages are pinned")
    await room.mod.call("unpin", id=messages[0])
    await room.mod.call("pin", id=messages[-1])


async def test_a_pinned_entry_that_is_not_unicode(room: Room, redis: Redis) -> None:
    """Nobody was ever given it; the other pins are."""
    broken = await produce(redis, room.channel, text=b"\xff")
    message = await room.ann.say("one")
    for each in (broken, message):
        await room.mod.call("pin", id=each)
    assert [pin["id"] for pin in (await room.ann.call("room"))["pins"]] == [message]


# What is left behind


@pytest.mark.parametrize(("history_ttl", "seconds"), [(0, MESSAGE_TTL), (1000, 1000)])
async def test_what_stands_beside_ends(
    history_ttl: int, seconds: int, node: Node, redis: Redis, name: Name
) -> None:
    """As long after the last change as entries are kept; while pinned, not at all."""
    room = Room(node, name("chat"), Namespace(chat=True, history_ttl=history_ttl))
    await room.app.call("set_role", user="mod", role="moderator")
    message = await room.ann.say("one")
    await room.ann.call("edit", id=message, text="two")
    await room.bob.call("react", id=message, key="+1")
    beside = [f"streamgate:chat-{kind}:{{{PREFIX}{room.channel}}}:{message}" for kind in
              ("message", "counts", "reactors", "reactions")]  # fmt: skip
    assert all([seconds - 10 < await redis.ttl(key) <= seconds for key in beside])
    await room.mod.call("pin", id=message)
    await room.ann.call("edit", id=message, text="three")
    await room.ann.call("react", id=message, key="+1")
    assert {await redis.ttl(key) for key in beside} == {-1}
    await room.mod.call("unpin", id=message)
    assert all([seconds - 10 < await redis.ttl(key) <= seconds for key in beside])


async def test_events_trim_as_messages_do(node: Node, redis: Redis, name: Name) -> None:
    """A room of pins and edits stays about as long as one of messages."""
    room = Room(node, name("chat"), Namespace(chat=True, history_size=100))
    await room.app.call("set_role", user="mod", role="moderator")
    for _ in range(150):
        message = await room.ann.say("a")
        await room.mod.call("pin", id=message)
        await room.mod.call("unpin", id=message)
    assert await redis.xlen(PREFIX + room.channel) <= 300
