"""Bans that meet somebody in the middle of something, or somebody who is above them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis

from tests.support import api
from tests.support.checker import add
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, allow, signed_in, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Client, Json, open_client

Nodes = tuple[NodeProcess, NodeProcess]
Name = Callable[[str], str]

SETTINGS: dict[str, Any] = {
    "tokens": TOKENS,
    "api": api.API,
    "namespaces": {
        "room": {"mode": "log", "chat": True, "publish": "authenticated"},
        "log": {"mode": "log", "history_size": 0},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(redis_process: RedisProcess) -> AsyncIterator[Nodes]:
    async with running(redis_process.url, SETTINGS, SETTINGS) as (first, second):
        yield first, second


async def _texts_until(client: Client, channel: str) -> list[Any]:
    """The texts of the messages that come before the first publication of a channel."""
    texts = []
    while (push := await client.next_push())["channel"] != channel:
        if "pub" in push:
            texts.append(push["pub"]["data"].get("text"))
    return texts


async def test_a_ban_while_the_client_connects(pair: Nodes, redis: Redis, name: Name) -> None:
    """The token subscribes it to the room, and to so much else that the ban comes in between."""
    for _ in range(5):  # each time it may come too late to be in between
        user, room, others = someone(), name("room"), [name("log") for _ in range(120)]
        async with (
            open_client(pair[0].url) as watcher,
            open_client(pair[0].url, connect=False) as client,
        ):
            await watcher.subscribe(room)
            number = client.next_id()
            request = {"token": token(user, channels=[room, *others])}
            await client.send_raw(json.dumps({"id": number, "connect": request}))

            async def under_way(first: str = others[0]) -> bool:
                return bool(await redis.exists(f"streamgate:epoch:{{{first}}}"))

            await eventually(under_way, "the client's channels are being read")
            await api.call(pair[0], "chat.ban", channel=room, user=user)
            assert others[-1] in (await client.reply(number))["connect"]["subs"]
            await api.call(pair[1], "chat.send", channel=room, text="not for the banned")
            while "pub" not in await watcher.next_push():  # whoever is in the room has it, too
                pass
            await add(redis, others[-1], "the end")
            assert await _texts_until(client, others[-1]) == []


async def test_nobody_bans_who_stands_above_all_roles(pair: Nodes, name: Name) -> None:
    """A moderator of the room may write it down, but it does not hold: nor for subscriptions."""
    room, moderator, admin = name("room"), someone("mod"), someone("admin")
    await api.call(pair[0], "chat.set_role", channel=room, user=moderator, role="moderator")
    by_token: Json = {"token": token(admin, channel=room, allow=["mod", "pub", "hst"])}
    async with (
        signed_in(pair[0].url, moderator) as banning,
        signed_in(pair[1].url, admin, caps=allow("room:*", "mod")) as above,
        signed_in(pair[1].url, admin) as above_here,
        signed_in(pair[1].url, admin) as plain,
    ):
        await above.subscribe(room)
        await above_here.subscribe(room, **by_token)
        await plain.subscribe(room)
        await banning.call("rpc", method="chat.ban", data={"channel": room, "user": admin})
        push = await plain.next_push()  # the same user, without the capability
        while "unsubscribe" not in push:
            push = await plain.next_push()
        assert (await plain.error("subscribe", channel=room))["code"] == 103
        for client, how in ((above, {}), (above_here, by_token)):
            await client.call("history", channel=room)
            assert not [push for push in client.pushes_now() if "unsubscribe" in push]
            await client.call("unsubscribe", channel=room)
            await client.subscribe(room, **how)
        caps = allow("room:*", "mod")
        async with signed_in(pair[1].url, admin, caps=caps, channels=[room]) as again:
            assert room in again.hello["subs"]


async def test_bans_end_by_the_clock_of_redis(
    redis_process: RedisProcess, pair: Nodes, name: Name, tmp_path: Path
) -> None:
    """On a node whose own clock is two minutes ahead, a ban of one minute holds for as long as elsewhere."""
    ahead = "import time\nnow = time.time\ntime.time = lambda: now() + 120\n"
    (tmp_path / "sitecustomize.py").write_text(ahead)
    room, user = name("room"), someone()
    with NodeProcess(redis_process.url, SETTINGS) as node:
        node.environment["PYTHONPATH"] = str(tmp_path)
        await node.start()
        async with signed_in(node.url, user) as client:
            await client.subscribe(room)
            await api.call(pair[0], "chat.ban", channel=room, user=user, seconds=60)
            push = await client.next_push()
            while "unsubscribe" not in push:
                push = await client.next_push()
            for command in ("subscribe", "history"):
                error = await client.error(command, channel=room)
                assert error["code"] == 103
                assert 50 < error["retry_after"] <= 60
