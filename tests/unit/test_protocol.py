"""session.protocol: what is a command, what is refused, and what ends the session."""

from __future__ import annotations

import orjson
import pytest

from service.errors import ReplyError, bad_request, internal
from service.raw_json import JsonList
from service.request import MAX_INTEGER, Request
from service.session.protocol import (
    METHODS,
    Command,
    ProtocolViolation,
    decode,
    encode_error,
    encode_push,
    encode_reply,
)


def _decode(line: bytes) -> Command:
    command = decode(line)
    assert command is not None
    return command


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_known(method: str) -> None:
    """A command has an id, and its method's object."""
    command = _decode(b'{"id":7,"%b":{"channel":"a"}}' % method.encode())
    assert (command.id, command.method, command.error) == (7, method, None)
    assert command.request.text("channel") == "a"


def test_an_empty_object_is_a_pong() -> None:
    """It is no command, and no violation."""
    assert decode(b"{}") is None
    assert decode(b" { } ") is None


def test_send_has_no_id() -> None:
    """Nobody answers it."""
    assert _decode(b'{"send":{"data":1}}').id == 0
    assert "send" in METHODS


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b'{"id":1,"connect":{}',
        b'{"id":1,"connect":{}}{"id":2,"ping":{}}',
        b'{"connect":{}}',
        b'{"id":0,"connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":4294967296,"connect":{}}',
        b'{"id":1.0,"connect":{}}',
        b'{"id":"1","connect":{}}',
        b'{"id":true,"connect":{}}',
        b'{"id":null,"connect":{}}',
        b'{"id":"1","send":{}}',
        b'{"id":1,"connect":{"token":"\xff"}}',
        b'{"id":1,"connect":{"token":NaN}}',
    ],
)
def test_what_is_no_command_ends_the_session(line: bytes) -> None:
    """Not JSON, not an object, or no usable id: there is nobody to answer."""
    with pytest.raises(ProtocolViolation):
        decode(line)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"id":1}', 107),
        (b'{"id":1,"connect":{},"ping":{}}', 107),
        (b'{"id":1,"fly":{}}', 104),
        (b'{"id":1,"connect":[]}', 107),
        (b'{"id":1,"connect":null}', 107),
        (b'{"id":1,"subscribe":"a"}', 107),
    ],
)
def test_a_malformed_command_is_answered(line: bytes, code: int) -> None:
    """With an id there is somebody to tell what is wrong."""
    command = _decode(line)
    assert command.id == 1
    assert command.error is not None
    assert command.error.code == code


def test_the_largest_id() -> None:
    """Ids are 32 bits, as in the Protobuf encoding."""
    assert _decode(b'{"id":4294967295,"ping":{}}').id == 2**32 - 1


# Parameters

_WRONG = {
    "text": [1, True, [], {}, 1.5],
    "flag": [0, 1, "true", [], {}],
    "integer": [True, "1", 1.0, [], {}, -1, MAX_INTEGER + 1],
    "nested": [1, "a", [], True],
}


@pytest.mark.parametrize(("reader", "value"), [(r, v) for r, values in _WRONG.items() for v in values])
def test_wrong_types_are_named(reader: str, value: object) -> None:
    """Each parameter is read with its type; the refusal names it."""
    with pytest.raises(ReplyError) as info:
        getattr(Request({"field": value}), reader)("field")
    assert info.value.code == 107
    assert "field" in info.value.message


@pytest.mark.parametrize("fields", [{}, {"field": None}])
def test_what_is_missing_is_zero(fields: dict[str, object]) -> None:
    """Zero values are omitted on the wire."""
    request = Request(fields)
    assert request.text("field") == ""
    assert request.flag("field") is False
    assert request.integer("field") == 0
    assert request.nested("field") is None


def test_parameters() -> None:
    """What is there is read."""
    request = Request({"t": "x", "f": True, "i": MAX_INTEGER, "m": -1, "n": {"i": 3}})
    assert (request.text("t"), request.flag("f"), request.integer("i")) == ("x", True, MAX_INTEGER)
    assert request.integer("m", least=-1) == -1
    nested = request.nested("n")
    assert nested is not None
    assert nested.integer("i") == 3


@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, {"a": [1, "é"]}])
def test_a_payload_is_any_json(value: object) -> None:
    """null is a payload, nothing is none."""
    assert orjson.loads(Request({"data": value}).payload("data")) == value
    with pytest.raises(ReplyError) as info:
        Request({}).payload("data")
    assert info.value.code == 107


def test_a_payload_nested_too_deeply_is_a_bad_request() -> None:
    """What can be read but not written again is the client's mistake, not ours."""
    command = _decode(b'{"id":1,"publish":{"data":%b}}' % (b"[" * 300 + b"]" * 300))
    try:
        data = command.request.payload("data")
    except ReplyError as exc:
        assert exc.code == 107  # noqa: PT017
    else:
        assert data == b"[" * 300 + b"]" * 300


# Answers


def test_answers_carry_the_commands_id() -> None:
    """A reply holds its method's result; an error says whether to try again."""
    command = _decode(b'{"id":7,"ping":{}}')
    assert encode_reply(command, {}) == b'{"id":7,"ping":{}}'
    assert encode_error(command, bad_request("no")) == b'{"id":7,"error":{"code":107,"message":"no"}}'
    assert orjson.loads(encode_error(command, internal()))["error"]["temporary"] is True


def test_an_unsubscribe_push() -> None:
    """It names the channel, the code and the reason."""
    assert orjson.loads(encode_push("a:é", "unsubscribe", b'{"code":2500,"reason":"gap"}')) == {
        "push": {"channel": "a:é", "unsubscribe": {"code": 2500, "reason": "gap"}}
    }


def test_publications_are_not_encoded_again() -> None:
    """A list is assembled from what is there, byte by byte."""
    command = _decode(b'{"id":7,"ping":{}}')
    items = JsonList([b'{"a": 1.0}', b"2"])
    assert encode_reply(command, {"p": items}) == b'{"id":7,"ping":{"p":[{"a": 1.0},2]}}'
    assert encode_reply(command, {"p": JsonList([])}) == b'{"id":7,"ping":{"p":[]}}'


# What no client could be sent


@pytest.mark.parametrize(
    "data",
    [
        rb'"cut in \ud83d"',
        rb'"\udc00\ud83d"',
        b"1e999",
        b"-1e999",
        b"9" * 400,
        b"9" * 5000,
        b"[" * 2000 + b"]" * 2000,
        b"[" * 60_000 + b"]" * 60_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_cannot_be_passed_on_is_one_commands_fault(data: bytes) -> None:
    """It is answered with 107, and the session goes on."""
    command = _decode(b'{"id":7,"publish":{"channel":"a","data":%b}}' % data)
    assert command.id == 7
    assert command.answered
    assert command.error is not None
    assert command.error.code == 107
    assert command.method in ("publish", "unknown")


@pytest.mark.parametrize(
    "line",
    [
        rb'{"id":1e999,"publish":{}}',
        rb'{"id":0,"publish":"\ud83d"}',
        rb'{"publish":"\ud83d"}',
        rb'{"id":%b,"publish":{}}' % (b"9" * 400),
        rb'["\ud83d"]',
        b'{"id":1,"publish":NaN}',
        b'{"id":1,"publish":Infinity}',
        b'{"id":1,"publish":"\xff"}',
        b'{"publish":' + b"[" * 60_000 + b"]" * 60_000 + b',"id":1}',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_has_no_id_or_is_no_json_ends_the_session(line: bytes) -> None:
    """There is nobody to answer."""
    with pytest.raises(ProtocolViolation):
        decode(line)


# Payloads to the letter


@pytest.mark.parametrize(
    "data",
    [
        b"123456789012345678901234567890",
        b"1e5",
        b"[1.0, 1e5, 0.1000000000000000055, 1.10, -0.0]",
        b'{"a":1,"a":2}',
        rb'{"\u0061" : "\u00e9\/" }',
        '"ä\u2028"'.encode(),
        b'{ "deep" : [ { "data" : "}" } , "]" ] }',
        b"[1.0,\t2]",
        b"0",
    ],
)
@pytest.mark.parametrize(
    "line", [b'{"id":1,"publish":{"data":%b,"channel":"a"}}', b' { "publish" : { "data" : %b } , "id" : 1 } ']
)
def test_payloads_are_passed_on_as_they_are_written(data: bytes, line: bytes) -> None:
    """No digit is lost, and no name."""
    assert _decode(line % data).request.payload("data") == data


def test_line_breaks_in_a_payload_become_spaces() -> None:
    """SDKs split frames at them."""
    command = _decode(b'{"id":1,"publish":{"data":[1.0,\r2]}}')
    assert command.request.payload("data") == b"[1.0, 2]"


def test_the_last_of_equal_names_counts() -> None:
    """As for everything else that is read from a command."""
    line = b'{"id":1,"publish":{"data":1.0},"publish":{"data":2.0,"d\\u0061ta":3.0,"x":{"data":4.0}}}'
    assert _decode(line).request.payload("data") == b"3.0"
    nested = _decode(b'{"id":1,"rpc":{"data":{"body":1.0}}}').request.nested("data")
    assert nested is not None
    assert nested.payload("body") == b"1.0"


def test_beside_what_is_nested_too_deeply_the_payload_is_the_value() -> None:
    """It cannot be found in the text."""
    deep = b"[" * 1000 + b"]" * 1000
    command = _decode(b'{"id":1,"publish":{"x":%b,"data":1.0e0}}' % deep)
    assert orjson.loads(command.request.payload("data")) == 1.0
