"""session.protocol: whatever a client sends is a command, a pong, or a violation; never anything else."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import ReplyError
from service.raw_json import cut
from service.session.protocol import METHODS, ProtocolViolation, decode, encode_error, encode_reply

_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
_json: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(["channel", "data", "recover", "offset", "epoch", "since", "limit", "flag"])
_requests = st.dictionaries(_fields | st.text(), _json, max_size=5)
_names = st.sampled_from([*METHODS, "id", "fly"])
_commands = st.dictionaries(_names, _json | _requests | st.integers(0, 2**33), max_size=3)


def _dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # integers of more than 64 bits, lone surrogates
        return b"{}"


_LINES = (
    st.binary(max_size=200)
    | st.builds(lambda text: text.encode("utf-8", "surrogatepass"), st.text(max_size=200))
    | st.builds(_dumps, _commands)
    | st.builds(_dumps, _json)
    | st.builds(lambda raw, at: raw[:at], st.builds(_dumps, _commands), st.integers(0, 200))
)


@given(_LINES)
@example(b'{"id":1,"publish":{"data":' + b"[" * 300 + b"]" * 300 + b"}}")
@example(b"[" * 100_000)
@example(b'{"id":1' + b"0" * 5000 + b',"connect":{}}')
def test_decode_raises_nothing_else(line: bytes) -> None:
    """And each of a command's parameters is read, or is a bad request."""
    try:
        command = decode(line)
    except ProtocolViolation:
        return
    if command is None:
        return
    assert 0 <= command.id < 2**32
    for name in ("channel", "data", "recover", "offset", "epoch", "since", "limit", "flag"):
        for read in ("text", "flag", "integer", "nested", "payload"):
            try:
                value = getattr(command.request, read)(name)
            except ReplyError as exc:
                assert exc.code == 107  # noqa: PT017
            else:
                assert read != "payload" or b"\n" not in value
    if command.error is not None:
        answer = orjson.loads(encode_error(command, command.error))
        assert answer["error"]["code"] in (104, 107)


@given(st.integers(1, 2**32 - 1), st.sampled_from(sorted(METHODS)), _requests)
def test_commands_round_trip(number: int, method: str, request: dict[str, Any]) -> None:
    """What a client encodes is what is read, and the answer carries its id."""
    line = _dumps({"id": number, method: request})
    if line == b"{}":
        return
    command = decode(line)
    assert command is not None
    assert (command.id, command.method, command.error) == (number, method, None)
    for name, value in orjson.loads(line)[method].items():
        assert orjson.loads(command.request.payload(name)) == value
    reply = encode_reply(command, {"x": 1})
    assert orjson.loads(reply) == {"id": number, method: {"x": 1}}
    assert b"\n" not in reply


_written = st.recursive(
    st.sampled_from(["null", "true", "0", "-1", "1.0", "1E5", "123456789012345678901234567890", '""'])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(json.dumps)
    | st.text('"\\\\{}[],:', max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: (
        st.builds("[{}]".format, st.lists(inner, max_size=4).map(" , ".join))
        | st.lists(
            st.tuples(st.sampled_from(['"data"', r'"d\u0061ta"', '"a"', '""']), inner), max_size=4
        ).map(lambda pairs: "{" + ",\t".join(f"{name} :{value}" for name, value in pairs) + " }")
    ),
    max_leaves=12,
)


@given(_written, st.lists(st.tuples(st.sampled_from(["data", "channel", "x"]), _written), max_size=4))
def test_payloads_are_what_was_written(data: str, others: list[tuple[str, str]]) -> None:
    """The text of the last `data`, whatever stands beside it; as the standard library reads it."""
    pairs = [*others, ("data", data), *[pair for pair in others if pair[0] != "data"]]
    request = " , ".join(f'"{name}": {value}' for name, value in pairs)
    line = f' {{"id" :1, "publish" :{{ {request}}} }}'.encode()
    command = decode(line)
    assert command is not None
    assert cut(line, "publish", "data") == data.encode()
    payload = command.request.payload("data")
    assert payload == data.encode() or (payload in line and orjson.loads(payload) == orjson.loads(data))


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_line_is_one_command(first: bytes, second: bytes) -> None:
    """Two objects on a line are never taken for one."""
    line = b'{"id":1,"ping":{}}' + first + b'{"id":2,"ping":{}}' + second
    with pytest.raises(ProtocolViolation):
        decode(line)
