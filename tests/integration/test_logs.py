"""No log line holds a token, a query string or a payload: the whole output of a run is searched."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from websockets.exceptions import InvalidHandshake

from tests.support import http
from tests.support.checker import add
from tests.support.node import StartNode
from tests.support.raw_client import RawClient, frame
from tests.support.redis_process import StartRedis
from tests.support.waiting import eventually
from tests.support.ws_client import dial, open_client

Name = Callable[[str], str]

#: Stands in every place where a client may put a secret.
_SECRET = "s3cr3t-0f-a-us3r"


async def test_a_whole_run(
    start_redis: StartRedis, connect_redis: Callable[[str], Redis], start_node: StartNode, name: Name
) -> None:
    process = start_redis(password=f"redis-{_SECRET}")
    redis = connect_redis(process.url)
    settings = {
        "limits": {"commands_burst": 50, "commands_per_second": 1, "subscriptions": 50},
        "client": {"close_seconds": 1},
    }
    node = await start_node(process.url, settings)
    query = f"?token={_SECRET}&cf_connect=%7B{_SECRET}%7D&cf_protocol=json"
    headers = {"Authorization": f"Bearer {_SECRET}", "Cookie": f"session={_SECRET}"}
    channel = name("chat")

    # A good session.
    async with open_client(node.url + query, connect=False, additional_headers=headers) as client:
        await client.command("connect", data={"password": _SECRET}, headers={"x": _SECRET})
        await client.send_raw(json.dumps({"id": 2, "refresh": {"token": _SECRET}}))
        assert (await client.closed())[0] == 3500
    async with open_client(node.url + query, additional_headers=headers) as client:
        await client.command("subscribe", channel=channel, token=_SECRET, data={"key": _SECRET})
        await client.subscribe(channel, data={"key": _SECRET})
        await client.call("publish", channel=channel, data={"text": _SECRET})
        assert await client.next_data(channel) == {"text": _SECRET}
        await client.command("sub_refresh", channel=channel, token=_SECRET)
        await client.command("rpc", method=_SECRET, data=_SECRET)
        await client.command(_SECRET, token=_SECRET)
        # Bad entries are logged, their contents are not.
        await redis.xadd(channel, {"data": "{" + _SECRET})
        await redis.xadd(channel, {"text": _SECRET.encode() + b"\xff"})
        await add(redis, channel, "good")
        assert await client.next_data(channel) == "good"
    # Every way to be refused.
    for message in (_SECRET, f'{{"id":1,"connect":{{"token":"{_SECRET}"', f'"{_SECRET}"'):
        async with open_client(node.url + query, connect=False) as client:
            await client.send_raw(message)
            await client.closed()
    async with open_client(node.url + query) as client:
        await client.send_raw(
            "\n".join(json.dumps({"id": n, "rpc": {"x": _SECRET}}) for n in range(100, 200))
        )
        assert (await client.closed())[0] == 3509
    async with await RawClient.open(node.port, f"/connection/websocket{query}") as raw:
        await raw.send(frame(_SECRET.encode(), masked=False))
        await raw.next_frame()
    for _ in range(2):
        with pytest.raises(InvalidHandshake, match="403"):
            await dial(node.url + query, additional_headers={"Origin": "http://other.example"})
    with pytest.raises(InvalidHandshake, match="404"):
        await dial(f"ws://127.0.0.1:{node.port}/other{query}")
    for port, path in (
        (node.port, "/"),
        (node.port, "/connection/websocket"),
        (node.port, "/no/such/page"),
        (node.admin_port, "/livez"),
        (node.admin_port, "/readyz"),
        (node.admin_port, "/nothing"),
    ):
        await http.get(port, path + query, headers)
    async with await RawClient.open(node.port, f"/connection/websocket{query}") as raw:
        await raw.command({"id": 1, "connect": {"token": _SECRET}})
    # And the ends: of Redis, and of the node.
    async with open_client(node.url + query) as client:
        process.kill()

        async def away() -> bool:
            return (await http.get(node.admin_port, f"/readyz{query}")).status == 503

        await eventually(away, "Redis is away")
        await client.command("publish", channel=channel, data=_SECRET)
        await node.stop()
    log = node.log
    assert log, "the run wrote nothing at all"
    assert _SECRET not in log, [line for line in log.splitlines() if _SECRET in line]
    assert log.count("pages of 'http://other.example' may not connect; server.allowed_origins names") == 1
    assert "uvicorn.error" not in log
    assert "token=" not in log
    assert "cf_connect" not in log
    assert "?" not in "".join(line for line in log.splitlines() if "/connection" in line)
