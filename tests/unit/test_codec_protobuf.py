"""session.codec_protobuf: the same commands and answers as in JSON."""

from __future__ import annotations

import orjson
import pytest
from centrifuge.protocol import client_pb2 as official

from service.errors import ReplyError, bad_request, internal, too_many_requests
from service.raw_json import JsonList
from service.request import Request
from service.session.codec_protobuf import PROTOBUF
from service.session.protocol import METHODS, Command, ProtocolViolation, encode_reply
from tests.support import protobuf
from tests.support.ws_client import Json


def _decode(number: int, **methods: Json) -> Command:
    (item,) = PROTOBUF.split(protobuf.command(number, **methods))
    command = PROTOBUF.decode(item)
    assert command is not None
    return command


def _reply(method: str, result: Json) -> Json:
    (reply,) = protobuf.replies(PROTOBUF.encode_reply(Command(7, method, Request({})), result))
    assert reply.pop("id") == 7
    return reply


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_known(method: str) -> None:
    """With an empty request, too."""
    command = _decode(7, **{method: {}})
    assert (command.id, command.method, command.error) == (7, method, None)
    assert command.request.names() == []


def test_requests() -> None:
    """Each kind of parameter is what a handler expects."""
    subscribe = _decode(
        1,
        subscribe={"channel": "a", "recover": True, "offset": 5, "epoch": "e", "flag": 2, "join_leave": True},
    ).request
    assert (subscribe.text("channel"), subscribe.text("epoch")) == ("a", "e")
    assert (subscribe.integer("offset"), subscribe.integer("flag")) == (5, 2)
    assert subscribe.flag("recover")
    assert subscribe.flag("join_leave")
    history = _decode(2, history={"channel": "a", "limit": -1, "since": {}, "reverse": True}).request
    since = history.nested("since")
    assert since is not None
    assert (history.integer("limit", least=-1), since.integer("offset"), since.text("epoch")) == (-1, 0, "")
    connect = _decode(
        3,
        connect={
            "token": "t",
            "data": b"[1]",
            "headers": {"x": "y"},
            "subs": {"a": {"recover": True, "offset": 9, "data": b"{}"}, "b": {}},
        },
    ).request
    subs, headers = connect.nested("subs"), connect.nested("headers")
    assert subs is not None
    assert headers is not None
    assert subs.names() == ["a", "b"] or subs.names() == ["b", "a"]
    assert headers.text("x") == "y"
    a = subs.nested("a")
    assert a is not None
    assert (a.flag("recover"), a.integer("offset")) == (True, 9)
    assert connect.payload("data") == b"[1]"


def test_an_offset_beyond_what_is_one() -> None:
    """Refused where it is read, as in JSON."""
    request = _decode(1, subscribe={"offset": 2**64 - 1}).request
    with pytest.raises(ReplyError, match="offset"):
        request.integer("offset")


@pytest.mark.parametrize(
    "data", [b"1", b"1e5", b"123456789012345678901234567890", b'{"a":1,"a":2}', b'"a\\u00e9"', b"null"]
)
def test_payloads_are_passed_on_as_they_are_written(data: bytes) -> None:
    """No digit is lost."""
    assert _decode(1, publish={"channel": "a", "data": data}).request.payload("data") == data
    nested = _decode(2, rpc={"method": "m", "data": b'{"body":%b}' % data}).request.nested("data")
    assert nested is not None
    assert nested.payload("body") == data


def test_line_breaks_in_a_payload_become_spaces() -> None:
    """JSON subscribers split at them."""
    data = _decode(1, publish={"channel": "a", "data": b'\n{"a":\r\n1.0}\n'}).request.payload("data")
    assert b"\n" not in data
    assert orjson.loads(data) == {"a": 1}


@pytest.mark.parametrize(
    "data", [b"\xff\0", b"hello", b'1,"channel":"b"', b"{", b"[" * 2000, b'"\\ud83d"', b" "]
)
@pytest.mark.parametrize("method", ["publish", "rpc", "send", "connect", "subscribe"])
def test_a_payload_that_is_not_json(method: str, data: bytes) -> None:
    """Error 107 that says so; the session goes on."""
    command = _decode(1, **{method: {"data": data}})
    assert command.error is not None
    assert (command.id, command.method, command.error.code) == (1, method, 107)
    assert "JSON" in command.error.message


def test_a_payload_that_is_nested_too_deeply() -> None:
    """Of JSON that orjson reads alone, but not in a command."""
    command = _decode(1, publish={"channel": "a", "data": b"[" * 1024 + b"]" * 1024})
    assert command.error is not None
    assert command.error.code == 107


@pytest.mark.parametrize("methods", [{"ping": {}, "connect": {}}, {"publish": {}, "rpc": {}, "send": {}}])
def test_several_methods(methods: dict[str, Json]) -> None:
    """Answered, not done."""
    command = _decode(1, **methods)
    assert (command.method, command.error and command.error.code) == ("unknown", 107)


def test_a_method_of_a_later_version() -> None:
    """104: the field is not seen, but that something was asked is."""
    command = PROTOBUF.decode(b"\x08\x07" + b"\xa2\x01\x02\x08\x01")
    assert command is not None
    assert (command.id, command.method, command.error and command.error.code) == (7, "unknown", 104)


def test_unknown_fields_are_passed_over() -> None:
    """In a request, too."""
    publish = official.PublishRequest(channel="a", data=b"1").SerializeToString() + b"\xa2\x06\x01x"
    body = b"\x08\x07" + b"\xa0\x06\x01" + b"\x3a" + protobuf.delimited(publish)
    command = PROTOBUF.decode(body)
    assert command is not None
    assert (command.method, command.error, command.request.names()) == ("publish", None, ["channel", "data"])


def test_pongs() -> None:
    """A message without a byte; a frame without one costs as much as one with a pong."""
    assert list(PROTOBUF.split(b"\0")) == [b""]
    assert list(PROTOBUF.split(b"")) == [b""]
    assert list(PROTOBUF.split(b"\0\0")) == [b"", b""]
    assert PROTOBUF.decode(b"") is None
    assert protobuf.replies(PROTOBUF.ping) == [{}]


@pytest.mark.parametrize(
    "item", [b"\x08", b"\xff\xff", b"{}", b"\x22\x00", b"\xa2\x06\x00", b"\x08\x01\x22\x03\x0a\x01\xff"]
)
def test_what_is_no_command_ends_the_session(item: bytes) -> None:
    """Not Protobuf, text that is not UTF-8, or no id: there is nobody to answer."""
    with pytest.raises(ProtocolViolation):
        PROTOBUF.decode(item)


def test_what_comes_before_a_cut_is_read() -> None:
    """As lines of JSON before one that is none."""
    items = iter(PROTOBUF.split(b"\x02\x08\x01\x05ab"))
    assert next(items) == b"\x08\x01"
    with pytest.raises(ProtocolViolation):
        next(items)


def test_send_has_no_id() -> None:
    """Nobody answers it."""
    command = _decode(0, send={"data": b"1"})
    assert (command.method, command.answered) == ("send", False)


# Answers

_ITEMS = [b'{"data":{"a":1.50},"offset":4096}', b'{"data":2,"offset":8192,"tags":{"snapshot":"true"}}']


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("ping", {}),
        ("unsubscribe", {}),
        ("publish", {}),
        ("rpc", {"data": {"messages": [{"id": "1-0", "body": orjson.Fragment(b"1.0")}]}}),
        ("presence_stats", {"num_clients": 3, "num_users": 2}),
        ("presence", {"presence": {"c": orjson.Fragment(b'{"client":"c","user":"u","conn_info":{"n":1}}')}}),
        ("presence", {"presence": {}}),
        ("refresh", {"client": "c", "version": "1", "expires": True, "ttl": 5}),
        ("sub_refresh", {"expires": True, "ttl": 2**32 - 1}),
        ("history", {"epoch": "e", "offset": 2**53 - 1, "publications": JsonList(_ITEMS)}),
        (
            "subscribe",
            {
                "recoverable": True,
                "positioned": True,
                "epoch": "e",
                "offset": 8192,
                "expires": True,
                "ttl": 9,
                "data": orjson.Fragment(b'{"topic":"goals"}'),
                "was_recovering": True,
                "recovered": True,
                "publications": JsonList(_ITEMS),
            },
        ),
        (
            "connect",
            {
                "client": "c",
                "version": "1",
                "ping": 25,
                "pong": True,
                "node": "n",
                "data": orjson.Fragment(b"null"),
                "subs": {"a": {"epoch": "e", "publications": JsonList(_ITEMS)}, "b": {"recoverable": True}},
            },
        ),
    ],
)
def test_results(method: str, result: Json) -> None:
    """All that the JSON says."""
    expected = orjson.loads(encode_reply(Command(7, method, Request({})), result))[method]
    if not expected.get("presence", True):
        expected = {}
    assert _reply(method, result) == {method: expected}


def test_the_bytes_of_recovered_publications() -> None:
    """Are those of the entries."""
    (message,) = protobuf.split(
        PROTOBUF.encode_reply(Command(1, "history", Request({})), {"publications": JsonList(_ITEMS)})
    )
    publications = official.Reply.FromString(message).history.publications
    assert [publication.data for publication in publications] == [b'{"a":1.50}', b"2"]


@pytest.mark.parametrize("error", [internal(), bad_request("é"), too_many_requests(1.5)])
def test_errors(error: ReplyError) -> None:
    """Code, text and whether to try again; when is in the text only."""
    (reply,) = protobuf.replies(PROTOBUF.encode_error(Command(7, "publish", Request({}), error), error))
    body = error.body()
    body.pop("retry_after", None)
    assert reply == {"id": 7, "error": body}


def test_an_unsubscribe_push() -> None:
    """It names the channel, the code and the reason."""
    assert protobuf.replies(PROTOBUF.encode_push("a:é", "unsubscribe", b'{"code":2500,"reason":"gap"}')) == [
        {"push": {"channel": "a:é", "unsubscribe": {"code": 2500, "reason": "gap"}}}
    ]
