"""Chat against a naive model of a room: what is refused, what the history says, what a replay adds up to."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.channels import Namespace
from service.chat import messages
from service.errors import ReplyError
from tests.support.redis_process import RedisProcess, redis_client
from tests.unit.fakes.chat import PREFIX, Node, Person, chat_node, entries, keys_beside

NAMESPACE = Namespace(chat=True)

#: Users; "" is anonymous, "cap" moderates by capability.
USERS = ("ann", "mod", "other", "own", "cap", "")
RANKS = {"member": 0, "moderator": 1, "owner": 2}

users = st.sampled_from(USERS)
known = st.sampled_from(USERS[:-1])
texts = st.text(min_size=1, max_size=8)
keys = st.sampled_from(["👍", '"'])
# Which message: one of the last few, or one that may be gone for long.
targets = st.integers(0, 3)

sends = st.tuples(st.just("send"), users, st.tuples(texts, st.sampled_from(["", "", "n1", "n2"])))
# From few, so that some are taken back.
reacting = st.sampled_from(["ann", "cap", "cap", ""])
reactions = st.tuples(st.just("react"), reacting, st.tuples(targets, keys, st.booleans()))
edits = st.tuples(st.just("edit"), users, st.tuples(targets, texts))
pins = st.tuples(st.just("pin"), users, st.tuples(targets))
steps = st.one_of(
    *(sends, sends, edits, edits, reactions, reactions, pins, pins),
    st.tuples(st.just("produce"), st.just(""), st.tuples(known, texts)),
    st.tuples(st.just("delete"), users, st.tuples(targets)),
    st.tuples(st.just("unpin"), users, st.tuples(targets)),
    # Not too often: in a room where nobody may speak little goes wrong.
    st.tuples(st.sampled_from(["mute", "unmute", "ban", "unban", "purge"]), users, st.tuples(known)),
    st.tuples(st.just("set_role"), users, st.tuples(known, st.sampled_from(sorted(RANKS)))),
)


@dataclasses.dataclass
class Message:
    author: str
    text: str
    reactions: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    edited_by: str | None = None

    def counts(self) -> dict[str, int]:
        return {key: len(who) for key, who in self.reactions.items() if who}


class Refused(Exception):
    """The model says no, with a code."""


def refuse_if(condition: bool, code: int = 103) -> None:
    if condition:
        raise Refused(code)


class Model:
    """A room in plain Python."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.ids: list[str] = []
        self.pins: set[str] = set()
        self.nonces: dict[tuple[str, str], str] = {}
        self.roles = {"mod": "moderator", "other": "moderator", "own": "owner"}
        self.muted: set[str] = set()
        self.banned: set[str] = set()

    def target(self, at: int) -> str:
        return self.ids[-1 - at] if at < len(self.ids) else "1-0"

    def rank(self, user: str) -> int:
        return 3 if user == "cap" else RANKS[self.roles.get(user, "member")]

    def role_rank(self, user: str) -> int:
        """Of the role alone: nobody can see another's capabilities."""
        return RANKS[self.roles.get(user, "member")]

    def barred(self, user: str, *, muted_too: bool) -> bool:
        return user != "cap" and (user in self.banned or (muted_too and user in self.muted))

    def add(self, message_id: str, author: str, text: str) -> None:
        self.messages[message_id] = Message(author, text)
        self.ids.append(message_id)

    def remove(self, message_id: str) -> None:
        del self.messages[message_id]
        self.pins.discard(message_id)

    def own_or_moderated(self, user: str, message_id: str, *, muted_too: bool) -> Message:
        refuse_if(user == "")
        refuse_if(self.barred(user, muted_too=muted_too))
        refuse_if(message_id not in self.messages, 404)
        message = self.messages[message_id]
        refuse_if(self.rank(user) == 0 and message.author != user)
        return message

    def moderator(self, user: str, target: str | None = None, least: int = 1) -> None:
        refuse_if(user == "")
        refuse_if(self.barred(user, muted_too=False))
        refuse_if(self.rank(user) < least)
        refuse_if(target == user)
        refuse_if(target is not None and self.role_rank(target) >= self.rank(user))

    # What commands do

    def edit(self, user: str, at: int, text: str) -> None:
        message = self.own_or_moderated(user, self.target(at), muted_too=True)
        message.text, message.edited_by = text, user

    def delete(self, user: str, at: int) -> None:
        self.own_or_moderated(user, self.target(at), muted_too=False)
        self.remove(self.target(at))

    def react(self, user: str, at: int, key: str, remove: bool) -> None:
        refuse_if(user == "")
        refuse_if(self.barred(user, muted_too=True))
        refuse_if(self.target(at) not in self.messages, 404)
        who = self.messages[self.target(at)].reactions.setdefault(key, set())
        if remove:
            who.discard(user)
        else:
            who.add(user)

    def pin(self, user: str, at: int) -> None:
        self.moderator(user)
        refuse_if(self.target(at) not in self.messages, 404)
        self.pins.add(self.target(at))

    def unpin(self, user: str, at: int) -> None:
        self.moderator(user)
        refuse_if(self.target(at) not in self.pins, 404)
        self.pins.remove(self.target(at))

    def mute(self, user: str, target: str) -> None:
        self.moderator(user, target)
        self.muted.add(target)

    def unmute(self, user: str, target: str) -> None:
        self.moderator(user, target)
        self.muted.discard(target)

    def ban(self, user: str, target: str) -> None:
        self.moderator(user, target)
        self.banned.add(target)

    def unban(self, user: str, target: str) -> None:
        self.moderator(user, target)
        self.banned.discard(target)

    def purge(self, user: str, target: str) -> None:
        self.moderator(user, target)
        for message_id in [i for i, message in self.messages.items() if message.author == target]:
            self.remove(message_id)

    def set_role(self, user: str, target: str, role: str) -> None:
        self.moderator(user, target, least=2)
        self.roles[target] = role


class Client:
    """What somebody shows who follows the room's stream, by docs/chat.md."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.pins: set[str] = set()

    def take(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        raw = fields.get(b"data")
        data = orjson.loads(raw) if raw else {k.decode(): v.decode() for k, v in fields.items()}
        shown = self.messages.get(data.get("id", ""), {})
        match data.get("type", "message"):
            case "message":
                self.messages[entry_id] = {"text": data["text"], "reactions": {}}
            case "edit":
                shown["text"] = data["text"]
            case "reaction":
                shown["reactions"] = data["counts"]
            case "pin":
                self.pins.add(data["id"])
            case "unpin":
                self.pins.discard(data["id"])
            case "delete" | "purge":
                for gone in data.get("ids", [data.get("id")]):
                    self.messages.pop(gone, None)
                    self.pins.discard(gone)


class Run:
    """A room on two nodes, its model, and somebody who follows it."""

    def __init__(self, nodes: tuple[Node, Node], redis: Redis, channel: str) -> None:
        self.redis = redis
        self.channel = channel
        self.model = Model()
        self.follower = Client()
        self.followed: set[bytes] = set()
        self.node = itertools.cycle(nodes)

    def person(self, user: str) -> Person:
        node = next(self.node)
        return Person(node, self.channel, user, namespace=NAMESPACE, moderates=user == "cap")

    async def start(self) -> None:
        for user, role in self.model.roles.items():
            await self.person("cap").call("set_role", user=user, role=role)
        for user in ("ann", "mod"):
            await self.send(user, "hello", "")

    async def step(self, command: str, user: str, arguments: tuple[Any, ...]) -> None:
        if command == "send":
            await self.send(user, *arguments)
        elif command == "produce":
            author, text = arguments
            entry_id = await self.redis.xadd(PREFIX + self.channel, {"user": author, "text": text})
            assert isinstance(entry_id, bytes)
            self.model.add(entry_id.decode(), author, text)
        else:
            await self.compare(command, user, arguments)
        for entry_id, fields in (await entries(self.redis, self.channel)).items():
            if entry_id not in self.followed:
                self.followed.add(entry_id)
                self.follower.take(entry_id.decode(), fields)

    async def send(self, user: str, text: str, nonce: str) -> None:
        model = self.model
        first = model.nonces.get((user, nonce))
        parameters = {"text": text, "nonce": nonce} if nonce else {"text": text}
        if first is None and model.barred(user, muted_too=True):
            assert (await self.person(user).refused("send", **parameters))[0] == 103
            return
        result = await self.person(user).call("send", **parameters)
        if first is not None:
            assert (result["id"], result["duplicate"]) == (first, True)
            return
        model.add(result["id"], user, text)
        if nonce:
            model.nonces[user, nonce] = result["id"]

    async def compare(self, command: str, user: str, arguments: tuple[Any, ...]) -> None:
        parameters: dict[str, Any] = {}
        match command, arguments:
            case "edit", (at, text):
                parameters = {"id": self.model.target(at), "text": text}
            case "react", (at, key, remove):
                parameters = {"id": self.model.target(at), "key": key, "remove": remove}
            case "set_role", (target, role):
                parameters = {"user": target, "role": role}
            case (("delete" | "pin" | "unpin"), (at,)):
                parameters = {"id": self.model.target(at)}
            case _, (target,):
                parameters = {"user": target}
        expected = found = None
        try:
            getattr(self.model, command)(user, *arguments)
        except Refused as refusal:
            expected = refusal.args[0]
        try:
            await self.person(user).call(command, **parameters)
        except ReplyError as refusal:
            found = refusal.code
        assert found == expected, (command, user, arguments)

    async def check(self) -> None:
        """All ways to learn what was said tell the same."""
        model = self.model
        cap = self.person("cap")
        shown = {
            message_id: {"text": message.text, "reactions": message.counts()}
            for message_id, message in model.messages.items()
        }
        for limit in (1, 3, 100):
            forward = await _walk(cap, "after", "0-0", limit)
            assert forward == (await _walk(cap, "before", "", limit))[::-1]
            assert [message["id"] for message in forward] == list(model.messages)
        for said in forward:
            message = model.messages[said["id"]]
            assert said["user"] == message.author
            assert said["data"]["text"] == message.text
            assert said.get("reactions", {}) == message.counts()
            assert said.get("edited_by") == message.edited_by
            assert said.get("pinned", False) == (said["id"] in model.pins)
        pins = (await cap.call("room"))["pins"]
        assert pins == [said for said in forward if said["id"] in model.pins]

        replayed = Client()
        stream = await entries(self.redis, self.channel)
        for entry_id, fields in stream.items():
            replayed.take(entry_id.decode(), fields)
        for client in (self.follower, replayed):
            assert client.messages == shown
            assert client.pins == model.pins
        # Of a message that is gone no edit is left.
        about = [orjson.loads(fields[b"data"]) for fields in stream.values() if b"data" in fields]
        edited = {data["id"] for data in about if data["type"] == "edit"}
        assert edited <= set(model.messages)
        dropped = {each for fields in stream.values() for each in fields.get(b"_drop", b"").split()}
        assert dropped.isdisjoint(stream)
        # Nothing stands beside a message that is gone.
        beside = {key.rpartition(":")[2] for key in await keys_beside(self.redis, self.channel)
                  if key.startswith(("chat-message", "chat-counts", "chat-react"))}  # fmt: skip
        assert beside <= set(model.messages)


async def _walk(person: Person, direction: str, position: str, limit: int) -> list[dict[str, Any]]:
    found = []
    while True:
        page = await person.call("history", limit=limit, **({direction: position} if position else {}))
        assert "limited" not in page or position != "0-0"
        found += page["messages"]
        if "next" not in page:
            return found
        position = page["next"]


_numbers = itertools.count(1)


async def _run(url: str, wanted: list[tuple[str, str, tuple[Any, ...]]]) -> None:
    async with chat_node(url) as one, chat_node(url) as two, redis_client(url) as redis:
        run = Run((one, two), redis, f"fuzz:{next(_numbers)}")
        await run.start()
        for step in wanted:
            await run.step(*step)
        await run.check()


@given(wanted=st.lists(steps, min_size=20, max_size=60), void_after=st.sampled_from([0, 10_000]))
def test_a_room_is_its_model(redis_process: RedisProcess, wanted: list[Any], void_after: int) -> None:
    """Whatever is done in whatever order, through either node."""
    with patch.object(messages, "VOID_AFTER_MS", void_after):
        asyncio.run(_run(redis_process.url, wanted))
