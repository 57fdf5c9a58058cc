"""From a stream entry's fields to a publication.

An entry is either one field `data` with a JSON payload, or flat fields that become a JSON object.
The reserved fields `_info` and `_tags` may stand beside either, in chat channels also `_drop`.
Entries of the streams of what is over at once (`channels.LIVE`) hold `data`, or one of `_join`, `_leave`.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from service.channels import LIVE, MAILBOX, Namespace
from service.errors import UndeliverableEntry
from service.hub.publication import Publication
from service.streams.position import StreamId, format_id, parse_id, to_offset

DATA = b"data"
#: JSON object: who published (user, client).
INFO = b"_info"
#: JSON object of strings, handed to clients as they are.
TAGS = b"_tags"
#: Ids, with a space between them, of earlier entries that were deleted.
DROP = b"_drop"
#: JSON object: who came or went.
JOIN, LEAVE = b"_join", b"_leave"

#: An entry as Redis replies it: id, then names and values in turn.
RawEntry = tuple[bytes, list[bytes]]

_NUMBER = re.compile(rb"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def decode(entry_id: StreamId, fields: list[bytes], namespace: Namespace, max_bytes: int) -> Publication:
    """Make a publication of an entry.

    Args:
        fields: names and values in turn, as `XREAD` gives them.
        max_bytes: largest payload.

    Raises:
        UndeliverableEntry: `args[0]` is a short reason that serves as a metric's label.
    """
    special = namespace.chat or namespace is LIVE or namespace is MAILBOX
    if len(fields) == 2 and fields[0] == DATA and not special:  # nearly always
        return Publication(entry_id, to_offset(entry_id), _payload(fields[1], max_bytes))
    rest: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
    if namespace is MAILBOX:  # as large as what nodes take from clients
        max_bytes = max(max_bytes, sum(map(len, fields)))
    if namespace is LIVE or namespace is MAILBOX:
        return _live(entry_id, rest, max_bytes)
    info = _object(rest.pop(INFO, None), "info", max_bytes)
    tags = _object(rest.pop(TAGS, None), "tags", max_bytes)
    drop = rest.pop(DROP, None) if namespace.chat else None
    if not rest:
        raise UndeliverableEntry("no_fields")
    if len(rest) == 1 and DATA in rest:
        data = _payload(rest[DATA], max_bytes)
    else:
        data = _payload(_join(rest, namespace.numeric_fields), max_bytes)
    if not namespace.chat:
        return Publication(entry_id, to_offset(entry_id), data, info, tags)
    # Clients name messages by their stream id.
    tags = orjson.dumps({**orjson.loads(tags or b"{}"), "id": format_id(entry_id).decode()})
    takes_back = None if drop is None else frozenset(parse_id(part) for part in drop.split())
    return Publication(entry_id, to_offset(entry_id), data, info, tags, entry_id[0], takes_back)


def _live(entry_id: StreamId, fields: dict[bytes, bytes], max_bytes: int) -> Publication:
    for field, kind in ((JOIN, b"join"), (LEAVE, b"leave")):
        info = _object(fields.get(field), "info", max_bytes)
        if info is not None:
            return Publication.presence(entry_id, kind, info)
    if DATA not in fields:
        raise UndeliverableEntry("no_fields")
    info = _object(fields.get(INFO), "info", max_bytes)
    return Publication(entry_id, 0, _payload(fields[DATA], max_bytes), info)


def decode_all(raw: list[RawEntry], namespace: Namespace, max_bytes: int) -> list[Publication]:
    """All of a reply to `XRANGE` that can be delivered. What cannot is counted by the tail, not here."""
    found = []
    for entry_id, fields in raw:
        try:
            found.append(decode(parse_id(entry_id), fields, namespace, max_bytes))
        except UndeliverableEntry:
            continue
    return found


def payload(raw: bytes) -> bytes:
    """Valid JSON on one line: what comes in, with line breaks between tokens made spaces.

    Raises:
        ValueError: not JSON.
    """
    orjson.loads(raw)
    if b"\n" in raw or b"\r" in raw:
        # In valid JSON these are white space between tokens only; SDKs split frames at line breaks.
        raw = raw.replace(b"\n", b" ").replace(b"\r", b" ")
    return raw


def _payload(raw: bytes, max_bytes: int) -> bytes:
    if len(raw) > max_bytes:
        raise UndeliverableEntry("too_large")
    try:
        return payload(raw)
    except ValueError:
        raise UndeliverableEntry("invalid_json") from None


def _object(raw: bytes | None, what: str, max_bytes: int) -> bytes | None:
    if raw is None:
        return None
    if len(raw) > max_bytes:
        raise UndeliverableEntry("too_large")
    try:
        value: Any = orjson.loads(raw)
        valid = isinstance(value, dict) and (
            what != "tags" or all(isinstance(v, str) for v in value.values())
        )
        if not valid:
            raise UndeliverableEntry(f"invalid_{what}")
        # Encoded anew: no line breaks, and a tags object that ends the way Publication.snapshot expects.
        return orjson.dumps(value)
    except (ValueError, orjson.JSONEncodeError):  # the latter: nested deeper than orjson writes
        raise UndeliverableEntry(f"invalid_{what}") from None


def _join(fields: dict[bytes, bytes], numeric: frozenset[str]) -> bytes:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            key = name.decode()
            if key not in numeric:
                values[key] = value.decode()
                continue
        except UnicodeDecodeError:
            raise UndeliverableEntry("invalid_utf8") from None
        if not _NUMBER.fullmatch(value):
            raise UndeliverableEntry("invalid_number")
        values[key] = orjson.Fragment(value)  # as written: no digit is lost
    return orjson.dumps(values)
