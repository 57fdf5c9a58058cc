"""The application is asked by a real node: who somebody is, and whether they may subscribe and publish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess
from tests.support.ws_client import Client, Json, open_client
from tests.unit.fakes.http_server import Asked, HttpServer, Reply, http_server, json

Name = Callable[[str], str]


async def _application(asked: Asked) -> Reply:
    """A back end: guests have names, one room is locked, links and shouting are not liked."""
    question = orjson.loads(asked.body)
    if asked.path == "/connect":
        return json({"result": {"user": question["data"]["name"], "meta": {"age": 7}}})
    if asked.path == "/subscribe":
        if "locked" in question["channel"]:
            return json({"error": {"code": 403, "message": "not your room"}})
        return json({"result": {"data": {"welcome": True}}})
    text = question["data"].get("text", "")
    if "http" in text:
        return json({"error": {"code": 403, "message": "no links, please"}})
    if "!" in text:
        return json({"disconnect": {"code": 4501, "reason": "banned"}})
    return json({"result": {"data": {**question["data"], **({"text": text.lower()} if text else {})}}})


@pytest_asyncio.fixture
async def application() -> AsyncIterator[HttpServer]:
    async with http_server() as server:
        server.respond = _application
        yield server


@pytest_asyncio.fixture
async def node(redis_process: RedisProcess, application: HttpServer) -> AsyncIterator[NodeProcess]:
    url = f"http://127.0.0.1:{application.port}"
    room = {"chat": True, "publish": "authenticated", "subscribe_hook": True, "publish_hook": True}
    settings: Json = {
        "hooks": {"secret": "of the hooks", **{f"{kind}_url": f"{url}/{kind}" for kind in _KINDS}},
        "namespaces": {"room": room, "locked": room, "log": {"publish": "anonymous", "publish_hook": True}},
    }
    async with running(redis_process.url, settings) as (node,):
        yield node


_KINDS = ("connect", "subscribe", "publish")


def _questions(application: HttpServer, kind: str) -> list[Any]:
    assert {asked.headers["authorization"] for asked in application.asked} == {"Bearer of the hooks"}
    return [orjson.loads(asked.body) for asked in application.asked if asked.path == f"/{kind}"]


async def _say(client: Client, method: str, channel: str, **params: Any) -> Any:
    answer = await client.command("rpc", method=f"chat.{method}", data={"channel": channel, **params})
    return answer.get("error") or answer["rpc"]["data"]


async def test_who_may_do_what(node: NodeProcess, application: HttpServer, name: Name) -> None:
    """What the application answers is what happens, and it is asked what the documentation says."""
    room = name("room")
    async with open_client(node.url, connect=False) as client:
        hello = await client.connect(data={"name": "ann"}, headers={"x-locale": "de"})
        (question,) = _questions(application, "connect")
        assert question["headers"] == {"x-locale": "de"}  # of the command alone: no header of the handshake
        about = {"client": hello["client"], "user": "ann", "meta": {"age": 7}}
        assert (await client.call("subscribe", channel=room))["data"] == {"welcome": True}
        error = await client.error("subscribe", channel=name("locked"))
        assert (error["code"], error["message"]) == (403, "not your room")
        assert _questions(application, "subscribe")[0] == about | {"channel": room, "data": None}

        sent = await _say(client, "send", room, text="HELLO")
        while "pub" not in (push := await client.next_push()):
            assert "join" in push
        assert push["pub"]["data"]["text"] == "hello"
        assert (await _say(client, "send", room, text="see http://…"))["message"] == "no links, please"
        assert (await _say(client, "edit", room, id=sent["id"], text="http://…"))["code"] == 403
        assert "edited" in await _say(client, "edit", room, id=sent["id"], text="Bye")
        assert "id" in await _say(client, "send", room, body={"sticker": 1})
        asked = _questions(application, "publish")
        assert asked[0] == about | {"channel": room, "data": {"channel": room, "text": "HELLO"}}
        assert asked[3]["data"] == {"channel": room, "id": sent["id"], "text": "Bye"}
        # Nobody is asked about what is no message, nor about reactions and who is typing.
        for wrong in ({}, {"text": 5}, {"text": "a", "body": {}}):
            assert (await _say(client, "send", room, **wrong))["code"] == 107
        assert (await client.error("publish", channel=room, data=5))["code"] == 107
        assert (await _say(client, "edit", room, text="a"))["code"] == 107
        assert (await _say(client, "react", room, id=sent["id"], key="http"))["counts"] == {"http": 1}
        assert await _say(client, "typing", room) == {}
        assert len(_questions(application, "publish")) == len(asked) == 5

        await client.send_raw(
            f'{{"id":99,"rpc":{{"method":"chat.send","data":{{"channel":"{room}","text":"!"}}}}}}'
        )
        assert await client.closed() == (4501, "banned")


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(b"<html>"), json([]), json({"result": 1})])
async def test_no_answer_allows_nothing(
    node: NodeProcess, application: HttpServer, name: Name, reply: Reply
) -> None:
    """The client is told to try again; the node's log says what is wrong."""
    async with open_client(node.url, connect=False) as client:
        await client.connect(data={"name": "ann"})
        application.says(reply)
        error = await client.error("publish", channel=name("log"), data=1)
        assert (error["code"], error["temporary"]) == (100, True)
    assert "hooks.publish_url: no answer from" in node.log
