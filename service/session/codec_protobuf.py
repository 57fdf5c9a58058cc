"""The protocol in Protobuf (service/wire): messages, each after its length.

Payloads are JSON here, too: what else a client sends as `data` is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from service.errors import ReplyError, bad_request, method_not_found
from service.request import Request
from service.session.protocol import Command, ProtocolViolation
from service.wire import client_pb2 as wire
from service.wire.messages import Malformed, delimited, fill, fill_publication, split

_NOTHING = Request({})


class ProtobufCodec:
    """Protobuf messages, each after its length."""

    __slots__ = ()

    #: A message without fields.
    ping = b"\0"

    def split(self, message: bytes) -> Iterable[bytes]:
        """Messages."""
        if not message:
            yield b""
        try:
            yield from split(message)
        except Malformed as exc:
            raise ProtocolViolation(str(exc)) from None

    def decode(self, item: bytes) -> Command | None:
        """A message; fields that the schema lacks are passed over."""
        if not item:
            return None
        try:
            command = wire.Command.FromString(item)
        except DecodeError:
            raise ProtocolViolation("not Protobuf") from None
        methods = [(field.name, value) for field, value in command.ListFields() if field.name != "id"]
        if not command.id and not command.HasField("send"):
            raise ProtocolViolation("a command other than send has an id")
        if len(methods) != 1:  # a method of a later version of the protocol is not seen
            error = bad_request("a command has exactly one method") if methods else method_not_found()
            return Command(command.id, "unknown", _NOTHING, error)
        ((method, request),) = methods
        try:
            return Command(command.id, method, _request(request, method))
        except ReplyError as error:
            return Command(command.id, method, _NOTHING, error)

    def encode_reply(self, command: Command, result: dict[str, Any]) -> bytes:
        """The answer to a command."""
        reply = wire.Reply(id=command.id)
        fill(reply, {command.method: result})
        return delimited(reply)

    def encode_error(self, command: Command, error: ReplyError) -> bytes:
        """The refusal of a command."""
        reply = wire.Reply(id=command.id)
        fill(reply.error, error.body())
        return delimited(reply)

    def encode_push(self, channel: str, kind: str, body: bytes) -> bytes:
        """A push of a channel, such as `pub` or `unsubscribe`; `body` is a JSON object."""
        reply = wire.Reply()
        reply.push.channel = channel
        if kind == "pub":
            fill_publication(reply.push.pub, body)
        else:
            fill(getattr(reply.push, kind), orjson.loads(body))
        return delimited(reply)


PROTOBUF = ProtobufCodec()


def _request(message: Message, method: str) -> Request:
    """The same as a JSON client would have sent.

    Raises:
        ReplyError: 107, a payload is not JSON.
    """
    fields = _fields(message)
    if not any(isinstance(value, orjson.Fragment) for value in fields.values()):
        return Request(fields)
    line = orjson.dumps({method: fields})
    try:
        return Request(orjson.loads(line)[method], line, method)
    except ValueError:  # alone they were not
        raise bad_request("data is nested too deeply") from None


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        try:
            orjson.loads(value)  # else it could bring members of its own
        except ValueError:
            raise bad_request(f"{field.name} must be JSON: other bytes cannot be passed on") from None
        return orjson.Fragment(value)
    if field.message_type is None:
        return value
    if not field.message_type.GetOptions().map_entry:
        return _fields(value)
    if field.message_type.fields_by_name["value"].message_type is None:
        return dict(value)
    return {name: _fields(item) for name, item in value.items()}
