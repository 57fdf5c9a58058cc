"""hub.publication: encoded once with the protocol's fields, and marked as a snapshot without parsing."""

from __future__ import annotations

import orjson
import pytest

from service.hub.publication import Publication


def test_json_has_the_protocols_fields() -> None:
    """data and offset always; info and tags only where there are any."""
    assert Publication((1, 2), 4098, b'{"a":1}').json == b'{"data":{"a":1},"offset":4098}'
    full = Publication((1, 2), 4098, b"1", b'{"client":"c"}', b'{"k":"v"}')
    assert orjson.loads(full.json) == {"data": 1, "info": {"client": "c"}, "offset": 4098, "tags": {"k": "v"}}


@pytest.mark.parametrize("tags", [None, b"{}", b'{"k":"v"}', b'{"k":"{}"}', b'{"k":"}}"}'])
@pytest.mark.parametrize("data", [b"1", b"{}", b'"}}"', b'{"a":{}}'])
def test_a_snapshot_is_tagged(data: bytes, tags: bytes | None) -> None:
    """The tag joins those there are; nothing else changes, and the publication itself does not."""
    publication = Publication((1, 2), 4098, data, None, tags)
    before = publication.json
    expected = orjson.loads(before)
    expected["tags"] = {**expected.get("tags", {}), "snapshot": "true"}
    assert orjson.loads(publication.snapshot()) == expected
    assert publication.json is before
