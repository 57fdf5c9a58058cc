"""streams.entries: an entry becomes one line of JSON, or is named undeliverable."""

from __future__ import annotations

import orjson
import pytest

from service.channels import MAILBOX, Namespace
from service.errors import UndeliverableEntry
from service.streams.entries import decode, decode_all, payload

LOG = Namespace(numeric_fields=frozenset({"price", "size"}))


def _json(*fields: bytes, max_bytes: int = 1000) -> dict[str, object]:
    found = orjson.loads(decode((7, 1), list(fields), LOG, max_bytes).json)
    assert isinstance(found, dict)
    return found


def test_data_passes_through_byte_by_byte() -> None:
    """One field `data`: its JSON is not encoded anew, so no digit and no space is lost."""
    publication = decode((7, 1), [b"data", b'{"price": 1.10, "n":12345678901234567890123}'], LOG, 1000)
    assert publication.json == (
        b'{"data":{"price": 1.10, "n":12345678901234567890123},"offset":%d}' % (7 << 12 | 1)
    )
    assert publication.id == (7, 1)


@pytest.mark.parametrize("data", [b"null", b"0", b'"text"', b"[]", b" 1 "])
def test_any_json_is_a_payload(data: bytes) -> None:
    """A payload need not be an object."""
    assert _json(b"data", data)["data"] == orjson.loads(data)


def test_line_breaks_between_tokens_become_spaces() -> None:
    """SDKs split frames at line breaks; in valid JSON these are white space."""
    publication = decode((7, 1), [b"data", b'{\r\n  "a": "x\\ny"\n}\r'], LOG, 1000)
    assert b"\n" not in publication.json
    assert b"\r" not in publication.json
    assert orjson.loads(publication.json)["data"] == {"a": "x\ny"}


def test_flat_fields_become_an_object() -> None:
    """Declared fields are numbers, as they were written; the others are strings."""
    publication = decode((7, 1), [b"price", b"189.30", b"size", b"1e3", b"sym", b'A"\n\xc3\xa9'], LOG, 1000)
    assert publication.json.startswith(b'{"data":{"price":189.30,"size":1e3,"sym":"A\\"\\n')
    assert orjson.loads(publication.json)["data"]["sym"] == 'A"\né'


def test_data_beside_flat_fields_is_one_of_them() -> None:
    """Only an entry of nothing but `data` is passed through."""
    assert _json(b"data", b"{not json", b"a", b"1")["data"] == {"data": "{not json", "a": "1"}


def test_info_and_tags_stand_beside_either() -> None:
    """The reserved fields are told apart from the payload."""
    found = _json(b"_tags", b'{"k":"v"}', b"data", b"1", b"_info", b'{"client":"c"}')
    assert found == {"data": 1, "info": {"client": "c"}, "offset": 7 << 12 | 1, "tags": {"k": "v"}}
    assert _json(b"a", b"1", b"_info", b"{}")["data"] == {"a": "1"}


def test_info_and_tags_are_one_line() -> None:
    """What came with line breaks leaves without."""
    publication = decode(
        (7, 1), [b"data", b"1", b"_tags", b'{\n"a":\r"b"}', b"_info", b'{\n"c":1}'], LOG, 1000
    )
    assert b"\n" not in publication.json
    assert b"\r" not in publication.json


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "no_fields"),
        ([b"_info", b"{}"], "no_fields"),
        ([b"data", b"{"], "invalid_json"),
        ([b"data", b""], "invalid_json"),
        ([b"data", b'"\xff"'], "invalid_json"),
        ([b"data", b"NaN"], "invalid_json"),
        ([b"data", b"1" * 1001], "too_large"),
        ([b"a", b"1" * 1000], "too_large"),
        ([b"data", b"1", b"_info", b"[]"], "invalid_info"),
        ([b"data", b"1", b"_info", b"{"], "invalid_info"),
        ([b"data", b"1", b"_tags", b'{"a":1}'], "invalid_tags"),
        ([b"data", b"1", b"_tags", b"null"], "invalid_tags"),
        ([b"a", b"\xff"], "invalid_utf8"),
        ([b"\xff", b"a"], "invalid_utf8"),
        ([b"price", b"abc"], "invalid_number"),
        ([b"price", b"01"], "invalid_number"),
        ([b"price", b"1\n"], "invalid_number"),
        ([b"price", b"NaN"], "invalid_number"),
        ([b"price", b""], "invalid_number"),
    ],
)
def test_undeliverable_entries_say_why(fields: list[bytes], reason: str) -> None:
    """The reason is short enough to be a metric's label."""
    with pytest.raises(UndeliverableEntry) as info:
        decode((7, 1), fields, LOG, 1000)
    assert info.value.args == (reason,)


@pytest.mark.parametrize("field", [b"_info", b"_tags", b"data"])
def test_json_nested_too_deeply_stops_nothing(field: bytes) -> None:
    """Whatever is in a field, it is delivered or named undeliverable."""
    nested = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    fields = [b"data", b"1", field, nested] if field != b"data" else [b"data", nested]
    try:
        orjson.loads(decode((7, 1), fields, LOG, 1000).json)
    except UndeliverableEntry as exc:
        assert exc.args[0].startswith("invalid_")  # noqa: PT017


def test_the_largest_payload_is_delivered() -> None:
    """The bound is inclusive."""
    assert _json(b"data", b'"%b"' % (b"a" * 98), max_bytes=100)["data"] == "a" * 98


def test_decode_all_leaves_out_what_cannot_be_delivered() -> None:
    """One bad entry takes nothing else with it."""
    raw = [(b"1-0", [b"data", b"1"]), (b"2-0", [b"data", b"{"]), (b"3-0", [b"data", b"3"])]
    assert [p.id for p in decode_all(raw, LOG, 1000)] == [(1, 0), (3, 0)]


def test_payload_refuses_what_is_not_json() -> None:
    """payload serves producers too."""
    assert payload(b"[1,\n2]") == b"[1, 2]"
    with pytest.raises(ValueError, match="invalid literal"):
        payload(b"nope")


def test_mail_is_as_large_as_messages_of_clients() -> None:
    """What one node writes to another has been bounded where it was taken; it has no offset."""
    letter = b'{"data":"%b"}' % (b"x" * 5000)
    found = decode((7, 1), [b"data", letter], MAILBOX, 1000)
    assert found.json == b'{"data":%b}' % letter
    with pytest.raises(UndeliverableEntry, match="invalid_json"):
        decode((7, 1), [b"data", b"{"], MAILBOX, 1000)
