"""session.codec_protobuf: whatever comes is a command, a pong, or a violation; answers say what JSON says."""

from __future__ import annotations

from typing import Any

import orjson
from centrifuge.protocol import client_pb2 as official
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import ReplyError
from service.hub.publication import Publication
from service.raw_json import JsonList
from service.request import Request
from service.session.codec_protobuf import PROTOBUF
from service.session.protocol import METHODS, Command, ProtocolViolation, encode_reply
from service.wire import client_pb2 as wire
from service.wire.messages import fill_publication
from tests.support import protobuf

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
).filter(lambda value: orjson.dumps(value) != b"null" or value is None)
_payloads = st.binary(max_size=20) | st.builds(orjson.dumps, _json)


def _requests(method: str) -> st.SearchStrategy[bytes]:
    request = official.Command.DESCRIPTOR.fields_by_name[method].message_type
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "channel": _text,
        "data": _payloads,
        "token": _text,
        "epoch": _text,
        "offset": st.integers(0, 2**64 - 1),
        "limit": st.integers(-(2**31), 2**31 - 1),
        "flag": st.integers(-(2**63), 2**63 - 1),
        "recover": st.booleans(),
        "method": _text,
    }
    fields = {name: kinds[name] for name in request.fields_by_name if name in kinds}
    return st.builds(
        lambda number, given: official.Command(id=number, **{method: given}).SerializeToString(),
        st.integers(0, 2**32 - 1),
        st.fixed_dictionaries({}, optional=fields),
    )


_items = st.binary(max_size=200) | st.sampled_from(sorted(METHODS)).flatmap(_requests)
_cut = st.builds(lambda raw, at: raw[:at], _items, st.integers(0, 100))


@given(st.lists(_items | _cut, max_size=4), st.binary(max_size=20), st.booleans())
@example([b"\x08\x01"], b"\xff" * 20, True)
def test_decode_raises_nothing_else(items: list[bytes], rest: bytes, delimit: bool) -> None:
    """And each of a command's parameters is read, or is a bad request."""
    message = b"".join(map(protobuf.delimited, items) if delimit else items) + rest
    try:
        for item in PROTOBUF.split(message):
            command = PROTOBUF.decode(item)
            if command is not None:
                _read(command)
    except ProtocolViolation:
        return


def _read(command: Command) -> None:
    assert 0 <= command.id < 2**32
    for name in ("channel", "data", "recover", "offset", "epoch", "since", "limit", "flag", "subs"):
        for read in ("text", "flag", "integer", "nested", "payload"):
            try:
                value = getattr(command.request, read)(name)
            except ReplyError as exc:
                assert exc.code == 107  # noqa: PT017
            else:
                assert read != "payload" or b"\n" not in value
    if command.error is not None:
        (answer,) = protobuf.replies(PROTOBUF.encode_error(command, command.error))
        assert answer["error"]["code"] in (104, 107)


_info = st.fixed_dictionaries(
    {"client": _text.filter(bool)},
    optional={"user": _text.filter(bool), "conn_info": _json, "chan_info": _json},
)
_publications = st.builds(
    lambda data, info, offset, tags, time: Publication(
        (1, 0),
        offset,
        orjson.dumps(data),
        None if info is None else orjson.dumps(info),
        None if tags is None else orjson.dumps(tags),
        time,
    ),
    _json,
    st.none() | _info,
    st.integers(0, 2**53 - 1),
    st.none() | st.dictionaries(_text, _text, min_size=1, max_size=3),
    st.none() | st.integers(1, 2**41),
)


@given(_publications)
def test_publications_say_the_same(publication: Publication) -> None:
    """As their JSON, and as that of a snapshot."""
    for json in (publication.json, publication.snapshot()):
        message = wire.Publication()
        fill_publication(message, json)
        read = official.Publication.FromString(message.SerializeToString())
        assert protobuf.content(read) == orjson.loads(json)


_sub_results: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"recoverable": st.just(True), "epoch": _text.filter(bool)},
    optional={
        "offset": st.integers(1, 2**53 - 1),
        "recovered": st.just(True),
        "was_recovering": st.just(True),
        "expires": st.just(True),
        "ttl": st.integers(1, 2**31),
        "data": _json,
        "publications": st.lists(_publications, min_size=1, max_size=3).map(
            lambda publications: JsonList([publication.json for publication in publications])
        ),
    },
)
_results = st.one_of(
    st.tuples(st.just("subscribe"), _sub_results),
    st.tuples(st.just("rpc"), st.fixed_dictionaries({"data": _json})),
    st.tuples(
        st.just("connect"),
        st.fixed_dictionaries(
            {"client": _text.filter(bool), "ping": st.integers(1, 600)},
            optional={"data": _json, "subs": st.dictionaries(_text, _sub_results, min_size=1, max_size=3)},
        ),
    ),
    st.tuples(
        st.just("presence"),
        st.fixed_dictionaries({"presence": st.dictionaries(_text, _info, min_size=1, max_size=3)}),
    ),
)


@given(st.integers(1, 2**32 - 1), _results)
def test_results_say_the_same(number: int, answer: tuple[str, dict[str, Any]]) -> None:
    """As their JSON."""
    method, result = answer
    command = Command(number, method, Request({}))
    (reply,) = protobuf.replies(PROTOBUF.encode_reply(command, result))
    assert reply == orjson.loads(encode_reply(command, result))
