"""streams.entries: any entry becomes one line of valid JSON, or is named undeliverable; nothing else."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from service.channels import Namespace
from service.errors import UndeliverableEntry
from service.streams.entries import decode
from service.transports.json_websocket import JSON_WEBSOCKET
from tests.unit.fakes.frames import server_frames

NAMESPACE = Namespace(numeric_fields=frozenset({"price", "n"}))
MAX_BYTES = 400

_text = st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _pretty(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n")
    except TypeError:
        return b"1"


_json = st.builds(_pretty, _values)
_tags = st.dictionaries(st.text(), st.text(), max_size=3).map(_pretty)
_numbers = st.one_of(st.integers(), st.floats(), st.decimals()).map(lambda n: str(n).encode())
_raw = st.binary(max_size=40) | _text | _json | _tags | _numbers
_names = st.sampled_from([b"data", b"_info", b"_tags", b"price", b"n"]) | _text | st.binary(max_size=8)
_fields = st.lists(st.tuples(_names, _raw), max_size=5).map(
    lambda pairs: [part for pair in pairs for part in pair]
)
_data_alone = st.builds(lambda raw: [b"data", raw], _raw)
_tagged = st.builds(lambda raw, tags: [b"data", raw, b"_tags", tags, b"_info", tags], _json, _tags)

_DEEP = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"


@given(_fields | _data_alone | _tagged, st.tuples(st.integers(0, 2**41 - 1), st.integers(0, 2**64 - 1)))
@example([b"data", b"1", b"_info", _DEEP], (1, 0))
@example([b"data", b"1", b"_tags", _DEEP], (1, 0))
@example([b"data", b"[" * 200 + b"]" * 200], (1, 0))
@example([b"price", b"1" * 300], (1, 0))
def test_decode(fields: list[bytes], entry_id: tuple[int, int]) -> None:
    """What comes out is a publication of the protocol, and so is its snapshot and its frame."""
    try:
        publication = decode(entry_id, fields, NAMESPACE, MAX_BYTES)
    except UndeliverableEntry as exc:
        assert exc.args[0].isidentifier()  # noqa: PT017
        return
    found = orjson.loads(publication.json)
    assert publication.json.splitlines() == [publication.json]
    assert b"\n" not in publication.json
    assert b"\r" not in publication.json
    assert set(found) <= {"data", "info", "offset", "tags"}
    assert found.get("offset", 0) == publication.offset < 2**53
    assert all(isinstance(tag, str) for tag in found.get("tags", {}).values())
    snapshot = orjson.loads(publication.snapshot())
    assert snapshot.pop("tags") == {**found.pop("tags", {}), "snapshot": "true"}
    assert snapshot == found
    ((_, frame),) = server_frames(JSON_WEBSOCKET.publications("chat:é", [publication]))
    push = orjson.loads(frame)
    assert push["push"]["channel"] == "chat:é"


@given(_values)
def test_a_payload_is_what_was_published(value: object) -> None:
    """Pretty-printed JSON reaches clients as the same value."""
    raw = _pretty(value)
    try:
        publication = decode((1, 0), [b"data", raw], NAMESPACE, 10**6)
    except UndeliverableEntry:
        raise AssertionError(raw) from None
    assert orjson.loads(publication.json)["data"] == orjson.loads(raw)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=30), min_size=1, max_size=5))
def test_flat_fields_are_what_was_published(values: dict[str, str]) -> None:
    """Every field is there, as it was."""
    values = {f"f{name}": value for name, value in values.items()}
    fields = [part.encode() for pair in values.items() for part in pair]
    assert orjson.loads(decode((1, 0), fields, NAMESPACE, 10**6).json)["data"] == values
