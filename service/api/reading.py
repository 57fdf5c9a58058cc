"""presence, presence_stats, history, history_remove."""

from __future__ import annotations

import orjson

from service.api.application import namespace_of, order
from service.api.spec import Flag, Integer, Method, Nested, Result, Schema, Text
from service.errors import not_available, unrecoverable_position
from service.request import Request
from service.session.context import Context
from service.session.joining import Position
from service.streams.position import from_offset, to_offset


async def presence(context: Context, request: Request) -> Result:
    """Who is subscribed, on all nodes."""
    channel = request.required("channel")
    namespace_of(context.settings, channel)
    members = await context.presence.members(channel)
    return {"presence": {client: orjson.Fragment(info) for client, info in members.items()}}


async def presence_stats(context: Context, request: Request) -> Result:
    """How many are subscribed, on all nodes."""
    channel = request.required("channel")
    namespace_of(context.settings, channel)
    clients, users = await context.presence.stats(channel)
    return {"num_clients": clients, "num_users": users}


async def history(context: Context, request: Request) -> Result:
    """A page of a channel's stream."""
    channel, reverse = request.required("channel"), request.flag("reverse")
    namespace = namespace_of(context.settings, channel)
    most, limit = context.settings.limits.history_page, request.integer("limit", least=-1)
    asked = request.nested("since")
    since = None if asked is None else Position(asked.integer("offset"), asked.text("epoch"))
    epoch = await context.history.epoch(channel)
    if since is not None and since.epoch and since.epoch != epoch:
        raise unrecoverable_position()
    start = None if since is None else from_offset(since.offset, reverse=reverse)
    limit = most if limit < 0 else min(limit, most)
    page = await context.history.page(channel, namespace, start, limit, reverse=reverse)
    publications = [orjson.Fragment(publication.json) for publication in page.publications]
    return {"publications": publications, "offset": to_offset(page.top), "epoch": epoch}


async def history_remove(context: Context, request: Request) -> Result:
    """Remove all entries of a channel's stream, and what nodes keep of them."""
    channel = request.required("channel")
    if namespace_of(context.settings, channel).chat:
        raise not_available("a room's messages go by chat.delete and chat.purge")
    await context.history.remove(channel)
    await order(context, {"command": "forget", "channel": channel})
    return {}


_CHANNEL = Text(about="The channel.", required=True)

_COUNT: Schema = {"type": "integer", "minimum": 0}

#: Who a client is, in presence and in publications.
INFO: Schema = {
    "type": "object",
    "properties": {
        "client": {"type": "string"},
        "user": {"type": "string"},
        "conn_info": {},
        "chan_info": {},
    },
}

_PUBLICATION: Schema = {
    "type": "object",
    "properties": {
        "data": {},
        "offset": {"type": "integer"},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "info": INFO,
    },
    "required": ["data"],
}

_SINCE = Nested(
    about="After this position; with reverse, before it. Another epoch is error 112.",
    parameters={
        "offset": Integer(),
        "epoch": Text(least=0, about="As told with the offset; empty: any."),
    },
)

METHODS: dict[str, Method] = {
    "presence": Method(
        "Who is subscribed, on all nodes; 10,000 clients at most.",
        {"channel": _CHANNEL},
        presence,
        {"presence": {"type": "object", "additionalProperties": INFO}},
    ),
    "presence_stats": Method(
        "How many are subscribed, on all nodes.",
        {"channel": _CHANNEL},
        presence_stats,
        {"num_clients": _COUNT, "num_users": _COUNT},
    ),
    "history": Method(
        "A page of a channel's stream, and its position now.",
        {
            "channel": _CHANNEL,
            "limit": Integer(
                about="Publications; 0 or missing: the position only; -1: a full page.", least=-1
            ),
            "since": _SINCE,
            "reverse": Flag(about="The newest first."),
        },
        history,
        {
            "publications": {"type": "array", "items": _PUBLICATION},
            "offset": {"type": "integer"},
            "epoch": {"type": "string"},
        },
    ),
    "history_remove": Method(
        "Remove all that a channel's stream holds.",
        {"channel": _CHANNEL},
        history_remove,
    ),
}
