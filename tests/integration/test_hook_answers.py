"""The application is asked over HTTP: what clients see of it, and what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support import api
from tests.support.node import StartNode
from tests.support.redis_process import RedisProcess
from tests.support.tokens import TOKENS, from_now, signed_in, someone
from tests.support.ws_client import open_client
from tests.unit.fakes.http_server import HttpServer, Reply, http_server
from tests.unit.fakes.http_server import json as json_reply

Name = Callable[[str], str]

_YES = json_reply({"result": {}})


def _settings(server: HttpServer) -> dict[str, Any]:
    urls = {
        f"{hook}_url": f"http://127.0.0.1:{server.port}/{hook}"
        for hook in ("connect", "subscribe", "publish")
    }
    return {
        "tokens": TOKENS,
        "api": api.API,
        "hooks": {**urls, "timeout_seconds": 10},
        "namespaces": {
            "asked": {"mode": "log", "history_size": 0, "subscribe": "authenticated", "subscribe_hook": True},
            "room": {"mode": "log", "chat": True, "publish": "authenticated", "publish_hook": True},
        },
    }


async def test_subscribing_after_a_revocation(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    """What the application allows now was not issued before: whoever came back is let in everywhere."""
    async with http_server(_YES) as server:
        node = await start_node(redis_process.url, _settings(server))
        user, followed, new = someone(), name("asked"), name("asked")
        now = from_now(0)
        await api.call(node, "revoke", user=user, before_ms=int(now * 1000) - 1000)
        async with signed_in(node.url, someone("bob")) as bob, signed_in(node.url, user, iat=now) as client:
            await bob.subscribe(followed)
            await client.subscribe(followed)
            await client.subscribe(new)
            # What was allowed before ends with the rest.
            await api.call(node, "revoke", user=user)
            assert (await client.closed())[0] == 3500


async def test_cookies_are_not_kept(start_node: StartNode, redis_process: RedisProcess) -> None:
    """An application that sets a cookie with each answer would take the next client for the last one."""
    cookie = Reply(b'{"result":{"user":"ann"}}', headers=("Set-Cookie: session=of-ann; Path=/",))
    async with http_server(cookie) as server:
        node = await start_node(redis_process.url, _settings(server))
        for _ in range(2):
            async with open_client(node.url):
                pass
        assert len(server.asked) == 2
        for asked in server.asked:
            assert "cookie" not in asked.headers


async def test_what_is_nested_too_deeply_for_a_question(
    start_node: StartNode, redis_process: RedisProcess, name: Name
) -> None:
    """It is refused as everywhere: without a word in the log, and the client goes on."""
    async with http_server(_YES) as server:
        node = await start_node(redis_process.url, _settings(server))
        async with signed_in(node.url, someone()) as client:
            number, room = client.next_id(), name("room")
            body = '{"a":' * 300 + "1" + "}" * 300
            data = f'{{"channel":"{room}","body":{body}}}'
            await client.send_raw(f'{{"id":{number},"rpc":{{"method":"chat.send","data":{data}}}}}')
            assert (await client.reply(number))["error"]["code"] == 107
            sent = await client.call("rpc", method="chat.send", data={"channel": room, "text": "hello"})
            assert sent["data"]["id"]
            assert len(server.asked) == 1
