"""Calls of the server API, as an application's back end makes them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx

from tests.support.node import NodeProcess
from tests.support.waiting import DEADLINE

#: A key that a node takes with `API`, and another one.
KEY = "a key of the application, long enough"
OTHER_KEY = "another key, for the next one to come"

#: The section `api` of a node.
API: dict[str, Any] = {"keys": [KEY, OTHER_KEY]}


class Answer(NamedTuple):
    """What a call is answered with."""

    status: int
    body: Any


async def post(node: NodeProcess, path: str, content: bytes, headers: dict[str, str] | None = None) -> Answer:
    """POST to the admin port."""
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=DEADLINE) as client:
        url = f"http://127.0.0.1:{node.admin_port}{path}"
        response = await client.post(url, content=content, headers=headers)
    is_json = response.headers.get("content-type") == "application/json"
    return Answer(response.status_code, response.json() if is_json else response.text)


async def call(node: NodeProcess, method: str, /, **params: Any) -> Any:
    """A call that succeeds; returns its result."""
    answer = await post(node, f"/api/{method}", json.dumps(params).encode(), {"X-API-Key": KEY})
    assert answer.status == 200, answer
    assert "result" in answer.body, answer
    return answer.body["result"]


async def error(node: NodeProcess, method: str, /, **params: Any) -> Any:
    """A call that is refused for what it asks; returns the error."""
    answer = await post(node, f"/api/{method}", json.dumps(params).encode(), {"X-API-Key": KEY})
    assert answer.status == 200, answer
    return answer.body["error"]


async def call_batch(node: NodeProcess, commands: list[Any], *, parallel: bool = False) -> list[Any]:
    """A batch that is carried out; returns the replies."""
    content = json.dumps({"commands": commands, "parallel": parallel}).encode()
    answer = await post(node, "/api/batch", content, {"X-API-Key": KEY})
    assert (answer.status, list(answer.body)) == (200, ["replies"]), answer
    replies: list[Any] = answer.body["replies"]
    return replies
