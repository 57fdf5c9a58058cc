"""Keys that a URL hands out: fetched, rotated, waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import jwt
from redis.asyncio import Redis

from tests.support.node import StartNode
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.tokens import refused, someone, token
from tests.support.waiting import eventually
from tests.support.ws_client import Json, open_client
from tests.unit.fakes.http_server import Asked, Reply, http_server
from tests.unit.fakes.http_server import json as json_reply
from tests.unit.fakes.keypairs import private_key

Name = Callable[[str], str]


def _jwk(kid: str, number: int) -> Json:
    found: Json = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private_key("ES256", number).public_key()))
    return found | {"kid": kid, "use": "sig", "alg": "ES256"}


def _by(kid: str, number: int, user: str, **claims: Any) -> str:
    return token(user, key=private_key("ES256", number), algorithm="ES256", headers={"kid": kid}, **claims)


async def test_keys_that_rotate(start_node: StartNode, redis_process: RedisProcess, name: Name) -> None:
    """Keys are fetched when the node starts, and again for a token by one that is not known yet."""
    async with http_server(json_reply({"keys": [_jwk("first", 1)]})) as server:
        url = f"http://127.0.0.1:{server.port}/jwks.json"
        rules = {"log": {"subscribe": "token"}}
        # The first is fetched anew after a second; the other only when a token asks for it.
        settings: Json = {"tokens": {"jwks_url": url, "jwks_seconds": 1}, "namespaces": rules}
        async with running(redis_process.url, settings) as (node,):
            user, channel = someone(), name("log")
            async with open_client(node.url, connect=False) as client:
                await client.connect(token=_by("first", 1, user))
                await client.subscribe(channel, token=_by("first", 1, user, channel=channel))
                await refused(node.url, _by("first", 2, user))
                server.says(json_reply({"keys": [_jwk("second", 2)]}))
                await server.was_asked(len(server.asked) + 2)  # the first of them was answered
                await client.call("refresh", token=_by("second", 2, user))
                await client.call(
                    "sub_refresh", channel=channel, token=_by("second", 2, user, channel=channel)
                )
            # A key that is not there any more, or not there yet: the fetch of a moment ago cannot tell.
            async with open_client(node.url, connect=False) as client:
                error = await client.error("connect", token=_by("first", 1, user))
                assert (error["code"], error["temporary"]) == (100, True)


async def test_what_comes_behind_a_connect_that_waits(
    start_node: StartNode, redis_process: RedisProcess, redis: Redis, name: Name
) -> None:
    """The JavaScript SDK's first frame: connect and its subscribes. They wait for connect, in order."""
    answers = asyncio.Event()
    user, channel, other = someone(), name("log"), name("log")

    async def respond(_: Asked) -> Reply:
        await answers.wait()
        return json_reply({"keys": [_jwk("first", 1)]})

    async with http_server() as server:
        server.respond = respond
        node = await start_node(
            redis_process.url,
            {
                "tokens": {"jwks_url": f"http://127.0.0.1:{server.port}/jwks.json"},
                "namespaces": {"log": {"subscribe": "authenticated", "publish": "authenticated"}},
            },
        )
        await server.was_asked(1)
        async with open_client(node.url, connect=False) as client, open_client(node.url) as bystander:
            commands: list[Json] = [
                {"connect": {"token": _by("first", 1, user)}},
                {"subscribe": {"channel": channel}},
                {"publish": {"channel": channel, "data": "first"}},
                {"unsubscribe": {"channel": channel}},
                {"subscribe": {"channel": other}},
                {"publish": {"channel": other, "data": "second"}},
            ]
            await client.send_raw(
                "\n".join(json.dumps({"id": n} | command) for n, command in enumerate(commands, 1))
            )
            # The node waits for nothing else meanwhile, and says nothing to who is not known yet.
            await bystander.call("history", channel=other)
            assert (await bystander.error("subscribe", channel=other))["code"] == 103
            assert client.messages == []
            assert await redis.exists(channel, other) == 0
            answers.set()
            replies = [await client.reply(number) for number in range(1, len(commands) + 1)]
            assert not any("error" in reply for reply in replies), replies
            first = json.loads(str(client.messages[0]).split("\n")[0])
            assert first["id"] == 1
            # Between subscribe and unsubscribe the first may have come.
            while (push := await client.next_push())["channel"] == channel:
                pass
            assert (push["channel"], push["pub"]["data"]) == (other, "second")


async def test_keys_that_cannot_be_fetched(start_node: StartNode, redis_process: RedisProcess) -> None:
    """Nobody can say whether the token is good: the client is told to try again, and gets in then."""
    async with http_server(Reply(status=503)) as server:
        settings = {"tokens": {"jwks_url": f"http://127.0.0.1:{server.port}/jwks.json"}}
        node = await start_node(redis_process.url, settings)
        await server.was_asked(1)
        async with open_client(node.url, connect=False) as client:
            error = await client.error("connect", token=_by("first", 1, someone()))
            assert (error["code"], error["temporary"]) == (100, True)
            server.says(json_reply({"keys": [_jwk("first", 1)]}))

            async def let_in() -> bool:
                return "error" not in await client.command("connect", token=_by("first", 1, someone()))

            await eventually(let_in, "the keys are there")
