"""The client's side of the Protobuf protocol, by the schema and the codec of the official Python SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator

from centrifuge.protocol import client_pb2 as official
from google.protobuf.message import Message

from tests.support.ws_client import Json


def delimited(message: bytes) -> bytes:
    """A message after its length."""
    size, length = len(message), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*length, size]) + message


def command(number: int, **methods: Json) -> bytes:
    """A command after its length; payloads are `bytes` in it."""
    return delimited(official.Command(id=number, **methods).SerializeToString())


def split(data: bytes) -> Iterator[bytes]:
    """Messages, without their lengths."""
    while data:
        size = shift = at = 0
        while True:
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        assert len(data) >= at + size, "cut off"
        yield data[at : at + size]
        data = data[at + size :]


def replies(data: bytes) -> list[Json]:
    """What a node sent, as a JSON client would have got it."""
    return [content(official.Reply.FromString(message)) for message in split(data)]


def content(message: Message) -> Json:
    """The fields that are set; `bytes` as the JSON they hold."""
    found: Json = {}
    for field, value in message.ListFields():
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            nested = inner.fields_by_name["value"].message_type is not None
            found[field.name] = {key: content(value[key]) if nested else value[key] for key in value}
        elif field.is_repeated:
            found[field.name] = [content(item) for item in value]
        elif inner is not None:
            found[field.name] = content(value)
        else:
            found[field.name] = json.loads(value) if isinstance(value, bytes) else value
    return found
