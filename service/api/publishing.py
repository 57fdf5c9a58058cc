"""publish and broadcast."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from service.api.application import SERVER_USER, Application, namespace_of
from service.api.failures import failure
from service.api.spec import AnyJson, Method, Parameter, Result, Schema, Tags, Text, Texts
from service.channels import Namespace
from service.chat import rpc as chat
from service.chat.parameters import MAX_NONCE, MAX_USER
from service.errors import StreamgateError, bad_request, limit_exceeded
from service.request import Request
from service.session.context import Context
from service.streams.position import to_offset

#: Channels of one broadcast.
MAX_CHANNELS = 1000

#: Publications of a broadcast that Redis is given at a time.
AT_ONCE = 64

#: Tags of a publication, and characters of a value.
MAX_TAGS, MAX_TAG = 32, 1024

_COMMON: dict[str, Parameter] = {
    "data": AnyJson(about="What subscribers get, as it is written here.", required=True),
    "tags": Tags(about="Handed to subscribers beside the data.", most=MAX_TAGS, longest=MAX_TAG),
    "idempotency_key": Text(
        about="The same key in the same channel within 5 minutes is answered the same and writes nothing.",
        most=MAX_NONCE,
    ),
    "as_user": Text(about='In chat: in whose name; "server" if missing.', most=MAX_USER),
}

_POSITION: Mapping[str, Schema] = {
    "offset": {"type": "integer"},
    "epoch": {"type": "string"},
    "id": {"type": "string", "description": "In chat: the id of the message."},
}


async def publish(context: Context, request: Request) -> Result:
    """Append to a channel's stream."""
    return await _publish(context, request, request.required("channel"))


async def broadcast(context: Context, request: Request) -> Result:
    """The same in several channels; what fails in one does not keep it from the others."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(channel: str) -> Result:
        async with slots:
            try:
                return {"result": await _publish(context, request, channel)}
            except StreamgateError as exc:
                return {"error": failure(exc).body}

    return {"responses": await asyncio.gather(*map(one, request.strings("channels")))}


async def _publish(context: Context, request: Request, channel: str) -> Result:
    namespace = namespace_of(context.settings, channel)
    if namespace.chat:
        return await _say(context, request, channel)
    if request.text("as_user"):
        raise bad_request("as_user is for channels with chat; this one has none")
    data = _bounded(context, namespace, request.payload("data"))
    tags = request.nested("tags")
    written = await context.publisher.publish_once(
        channel,
        namespace,
        data,
        tags=None if tags is None else tags.encoded(),
        key=request.text("idempotency_key"),
    )
    return {"offset": to_offset(written.id), "epoch": written.epoch}


def _bounded(context: Context, namespace: Namespace, data: bytes) -> bytes:
    most = context.settings.limits.publication_bytes
    if len(data) > most:
        raise limit_exceeded(f"data has {len(data)} bytes, {most} are allowed")
    return data


async def _say(context: Context, request: Request, channel: str) -> Result:
    """A message, by the same way as those of clients: once for each nonce, and told to be one."""
    if request.nested("tags") is not None:
        raise bad_request("a chat message has no tags")
    said: Any = orjson.loads(request.payload("data"))
    if not isinstance(said, dict):
        raise bad_request("in a chat channel data must be an object with text or body")
    if key := request.text("idempotency_key"):
        if said.get("nonce") not in (None, key):
            raise bad_request("either idempotency_key or the nonce in data, not two different ones")
        said["nonce"] = key
    caller = Application(context.settings, request.text("as_user") or SERVER_USER)
    sent = await chat.METHODS["chat.send"](context.chat, caller, Request({**said, "channel": channel}))
    epoch = await context.history.epoch(channel, make=True)
    return {"offset": sent["offset"], "epoch": epoch, "id": sent["id"]}


_CHANNELS = Texts(about="The channels.", required=True, fewest=1, most=MAX_CHANNELS)

_RESPONSE: Schema = {
    "type": "object",
    "properties": {
        "result": {"type": "object", "properties": dict(_POSITION), "required": ["offset", "epoch"]},
        "error": {"$ref": "#/components/schemas/Error"},
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}

METHODS: dict[str, Method] = {
    "publish": Method(
        "Publish to a channel.",
        {"channel": Text(about="The channel.", required=True), **_COMMON},
        publish,
        _POSITION,
        ("id",),
    ),
    "broadcast": Method(
        "Publish the same to several channels; there is one response for each, in their order.",
        {"channels": _CHANNELS, **_COMMON},
        broadcast,
        {"responses": {"type": "array", "items": _RESPONSE}},
    ),
}
