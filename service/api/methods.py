"""All methods of the API, and the calling of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from service.api import nodes, publishing, reading, rooms, users
from service.api.failures import failure
from service.api.spec import SHOWN, Commands, Flag, Method, Result, check
from service.errors import ReplyError, StreamgateError, bad_request, method_not_found
from service.request import Request
from service.session.context import Context

#: Commands of one batch.
MAX_COMMANDS = 100


class Answer(NamedTuple):
    """The status of HTTP, and the JSON object."""

    status: int
    body: Result


async def call(context: Context, name: str, request: Request) -> Answer:
    """Call a method that there is."""
    method, code = METHODS[name], 0
    try:
        check(method.parameters, request.fields)
        result = await method.handler(context, request)
        answer = Answer(200, result if method.bare else {"result": result})
    except StreamgateError as exc:
        failed = failure(exc)
        code = failed.body["code"]
        answer = Answer(failed.status, {"error": failed.body})
    context.metrics.api_requests.labels(name, str(code)).inc()
    return answer


def unknown_method() -> ReplyError:
    """104, and what there is."""
    error = method_not_found()
    return ReplyError(error.code, f"{error.message}; there are {', '.join(sorted(METHODS))}")


async def batch(context: Context, request: Request) -> Result:
    """Several commands with one request: one after the other, or all at once."""
    commands = [_one(command) for command in request.objects("commands")]
    if request.flag("parallel"):
        return {"replies": await asyncio.gather(*(_reply(context, *command) for command in commands))}
    return {"replies": [await _reply(context, *command) for command in commands]}


def _one(command: Request) -> tuple[str, Request | None]:
    (name,) = command.names()
    if name == "batch":
        raise bad_request("a batch holds no batch")
    return name, command.nested(name)


async def _reply(context: Context, name: str, request: Request | None) -> Result:
    if name not in METHODS:
        return {"error": ReplyError(104, f"no method {name[:SHOWN]!r}").body()}
    _, answer = await call(context, name, request or Request({}))
    return answer if "error" in answer else {name: answer["result"]}


_REPLIES = {
    "type": "array",
    "items": {
        "type": "object",
        "description": "The result in a member of the method's name, or error.",
        "minProperties": 1,
        "maxProperties": 1,
    },
}

METHODS: dict[str, Method] = {
    **publishing.METHODS,
    **reading.METHODS,
    **users.METHODS,
    **nodes.METHODS,
    "batch": Method(
        "Several commands with one request; what fails does not keep the others from being carried out.",
        {
            "commands": Commands(
                about='Objects such as {"publish": {…}}, with one method each.',
                required=True,
                most=MAX_COMMANDS,
            ),
            "parallel": Flag(about="All at once; else one after the other."),
        },
        batch,
        {"replies": _REPLIES},
        bare=True,
    ),
    **rooms.METHODS,
}
