"""info and channels: what nodes report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from service.api.application import order
from service.api.spec import Method, Result, Schema, Text
from service.channels import MAX_CHANNEL_BYTES
from service.errors import limit_exceeded
from service.request import Request
from service.session.context import Context
from service.session.outside import MAX_CHANNELS
from service.streams.reports import Reported


async def info(context: Context, request: Request) -> Result:
    """How all nodes are."""
    reports, missing = await _ask(context, {})
    nodes = sorted(reports, key=lambda report: (report["name"], report["uid"]))
    return {"nodes": nodes, "missing": missing}


async def channels(context: Context, request: Request) -> Result:
    """Who is subscribed to what, on all nodes."""
    reports, missing = await _ask(context, {"pattern": request.text("pattern")})
    counts: Counter[str] = Counter()
    for report in reports:
        if report["channels"] is None:
            raise limit_exceeded(
                f"a node has more than {MAX_CHANNELS} such channels: narrow the pattern down"
            )
        counts.update(report["channels"])
    return {
        "channels": {name: {"num_clients": count} for name, count in counts.items()},
        "missing": missing,
    }


async def _ask(context: Context, more: dict[str, Any]) -> Reported:
    async def send(name: str) -> None:
        await order(context, {"command": "report", "to": name} | more)

    return await context.reports.ask(send)


_COUNT: Schema = {"type": "integer", "minimum": 0}

_MISSING: Schema = _COUNT | {"description": "Nodes that live and have not reported in time."}

_COUNTS = ("num_clients", "num_users", "num_subs", "num_channels", "uptime")

_NODE: Schema = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("uid", "name", "version")}
    | dict.fromkeys(_COUNTS, _COUNT),
    "required": ["uid", "name", "version", *_COUNTS],
    "additionalProperties": False,
}

_CHANNEL: Schema = {"type": "object", "properties": {"num_clients": _COUNT}, "required": ["num_clients"]}

METHODS: dict[str, Method] = {
    "info": Method(
        "What nodes there are, and how much each has to do.",
        {},
        info,
        {"nodes": {"type": "array", "items": _NODE}, "missing": _MISSING},
    ),
    "channels": Method(
        "The channels that somebody is subscribed to, on all nodes.",
        {"pattern": Text(about="With *, ? and […]; empty or missing: all.", least=0, most=MAX_CHANNEL_BYTES)},
        channels,
        {"channels": {"type": "object", "additionalProperties": _CHANNEL}, "missing": _MISSING},
    ),
}
