"""`streamgate publish`: one publication, as a producer would append it."""

from __future__ import annotations

import sys

import orjson

from service import channels
from service.channels import Namespace
from service.config import Settings
from service.errors import StreamgateError
from service.streams import connect


class PublishFailed(StreamgateError):
    """No node would deliver it; the text says why."""


async def append(channel: str, data: bytes, settings: Settings) -> None:
    """Append the JSON to the channel's stream, and print the entry's id.

    Raises:
        PublishFailed: no node would deliver it; Redis was not asked.
        RedisError: Redis cannot be reached, or refuses it.
    """
    namespace = _namespace(settings, channel)
    _check(data, settings.limits.publication_bytes)
    redis = connect.client(settings.redis)
    try:
        entry = await redis.xadd(
            settings.redis.key_prefix + channel,
            {"data": data},
            maxlen=namespace.history_size or None,
            approximate=True,
        )
    finally:
        await redis.aclose()
    sys.stdout.write((entry.decode() if isinstance(entry, bytes) else entry) + "\n")


def _check(data: bytes, limit: int) -> None:
    if not data:
        raise PublishFailed("nothing to publish: the payload is empty; it is JSON, such as '\"hello\"'")
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        raise PublishFailed(f"not UTF-8 text: {exc.reason} at byte {exc.start + 1}") from None
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise PublishFailed(f"not valid JSON: {exc}; a text needs its quotes: '\"hello\"'") from None
    if len(data) > limit:
        raise PublishFailed(f"{len(data)} bytes of JSON; allowed: {limit} (limits.publication_bytes)")


def _namespace(settings: Settings, channel: str) -> Namespace:
    try:
        channels.parse(channel)
    except ValueError as exc:
        raise PublishFailed(f"{channel!r} is no channel: {exc}") from None
    namespace = settings.namespace_of(channel)
    if namespace is None:
        known = ", ".join(f"{name}:…" for name in settings.namespaces)
        raise PublishFailed(f"{channel!r} is in no configured namespace; there are {known or 'none'}")
    return namespace
