"""From JSON of the protocol to its Protobuf messages, and messages to bytes.

What the node keeps and hands around is JSON; names are the same in both. Payloads are JSON in `bytes`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.raw_json import JsonList
from service.wire import client_pb2 as wire

#: Sets a field of a message to a value of JSON.
Writer = Callable[[Message, Any], None]

#: Bytes of the longest varint that a length may be: 2^35 - 1.
_MAX_LENGTH_BYTES = 5

#: Where a publication's payload begins; see `Publication.json`.
_DATA = b'{"data":'

# All that follows the payload of most publications.
_TAIL = re.compile(rb',"offset":(\d+)(?:,"time":(\d+))?}\Z')

# What matters for where a value of valid JSON ends. Strings first: what they hold does not.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]|,')


class Malformed(ValueError):
    """Bytes that are no sequence of messages, each after its length."""


def delimited(message: Message) -> bytes:
    """A message as bytes, after its length as a varint."""
    body = message.SerializeToString()
    size = len(body)
    if size < 0x80:
        return b"%c%b" % (size, body)
    length = bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + body


def split(data: bytes) -> Iterator[bytes]:
    """The messages, one after the other.

    Raises:
        Malformed: the bytes end in the middle of one, or a length is none.
    """
    at, end = 0, len(data)
    while at < end:
        size = shift = 0
        while True:
            if at == end or shift == 7 * _MAX_LENGTH_BYTES:
                raise Malformed("no length")
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if size > end - at:
            raise Malformed("a message is cut off")
        yield data[at : at + size]
        at += size


def fill(message: Message, value: Any) -> None:
    """Set a message's fields to those of a JSON object of the same names.

    Names that the schema lacks, and what is not of the field's type, are passed over: a producer may have
    written anything into the description of who published.
    """
    if isinstance(value, orjson.Fragment):
        value = orjson.loads(orjson.dumps(value))
    writers = _writers(message.DESCRIPTOR)
    for name, item in value.items():
        writer = writers.get(name)
        if writer is not None:
            writer(message, item)


def fill_publication(message: wire.Publication, json: bytes) -> None:
    """Set the fields of a publication from its JSON; the payload is, byte by byte, what that has."""
    at = json.rfind(b',"offset":')
    if at > 0 and b',"info":' not in json and b',"tags":' not in json:
        # Nothing behind the payload can be part of it: so it needs no parsing, however large it is.
        tail = _TAIL.match(json, at)
        if tail is not None:
            message.data = json[len(_DATA) : at]
            message.offset = int(tail[1])
            if tail[2] is not None:
                message.time = int(tail[2])
            return
    try:
        fields = orjson.loads(json)
        data = orjson.dumps(fields.pop("data"))
        end = len(_DATA) + len(data)
        # It is nearly always written as orjson writes it. What follows says whether a number ends there.
        if not json.startswith(data, len(_DATA)) or json[end] not in b",}":
            data = json[len(_DATA) : _end_of_value(json, len(_DATA))]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # nested deeper than orjson reads or writes
        end = _end_of_value(json, len(_DATA))
        data = json[len(_DATA) : end]
        fields = orjson.loads(b"{" + json[end:].removeprefix(b","))
    message.data = data
    fill(message, fields)


def _end_of_value(json: bytes, start: int) -> int:
    """Where a member's value ends that begins at `start`, in an object without white space around it."""
    depth, at = 0, start
    for found in _TOKEN.finditer(json, start):
        at = found.start()
        token = json[at]
        if token in b"[{":
            depth += 1
        elif depth == 0 and token in b",}":
            break
        elif token in b"]}":
            depth -= 1
    return at


# Writers, one for each field of the schema


@functools.cache
def _writers(descriptor: Descriptor) -> dict[str, Writer]:
    return {field.name: _writer(field) for field in descriptor.fields}


def _writer(field: FieldDescriptor) -> Writer:
    inner = field.message_type
    if inner is None:
        return _scalar(field)
    if inner.GetOptions().map_entry:
        return _map(field, inner.fields_by_name["value"])
    name = field.name
    if field.is_repeated:
        assert inner is wire.Publication.DESCRIPTOR

        def write_publications(message: Message, value: JsonList) -> None:
            publications = getattr(message, name)
            for json in value.items:
                fill_publication(publications.add(), json)

        return write_publications

    def write_message(message: Message, value: Any) -> None:
        target = getattr(message, name)
        target.SetInParent()
        fill(target, value)

    return write_message


def _scalar(field: FieldDescriptor) -> Writer:
    name = field.name
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda message, value: setattr(message, name, orjson.dumps(value))
    expected = {FieldDescriptor.TYPE_STRING: str, FieldDescriptor.TYPE_BOOL: bool}.get(field.type, int)

    def write(message: Message, value: Any) -> None:
        if type(value) is expected:
            setattr(message, name, value)

    return write


def _map(field: FieldDescriptor, values: FieldDescriptor) -> Writer:
    name = field.name
    if values.message_type is None:
        return lambda message, value: getattr(message, name).update(value)

    def write(message: Message, value: Any) -> None:
        target = getattr(message, name)
        for key, item in value.items():
            fill(target[key], item)

    return write
