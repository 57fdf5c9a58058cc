"""wire.messages: lengths, and publications whose payload is taken over byte by byte."""

from __future__ import annotations

import filecmp
import sys
from importlib.resources import files
from pathlib import Path
from subprocess import run

import orjson
import pytest
from centrifuge.protocol import client_pb2 as official

from service.hub.publication import Publication
from service.wire import client_pb2 as wire
from service.wire.messages import Malformed, delimited, fill, fill_publication, split
from tests.support.protobuf import content


@pytest.mark.parametrize("size", [0, 1, 123, 124, 125, 126, 127, 128, 129, 16_379, 16_384, 3_000_000])
def test_lengths(size: int) -> None:
    """However many bytes the length takes, what follows is the message."""
    message = wire.RPCResult(data=bytes(size))
    body = message.SerializeToString()
    assert list(split(delimited(message) * 2 + delimited(wire.Reply()))) == [body, body, b""]


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x01", b"\x02a", b"\0\x05abcd", b"\xff" * 5 + b"\x01", b"\x80" * 20 + b"\0"]
)
def test_what_is_cut_off(data: bytes) -> None:
    """A length without its message, or without an end."""
    with pytest.raises(Malformed):
        list(split(data))


@pytest.mark.parametrize(
    "data",
    [
        b"1",
        b"0.1000000000000000055",
        b"1.50",
        b"123456789012345678901234567890",
        b'{"a":1,"a":2}',
        b'"}}"',
        b'{ "offset" : 5 }',
        b'{"offset":5}',
        b'{"x":1,"offset":5}',
        b'{"a":1,"info":{"user":"x"},"tags":{"t":"v"},"offset":7}',
        b'["\\"", "]", {"a":[]} ,"\\\\"]',
        b"[" * 1000 + b"]" * 1000,
        b"[" * 1000 + b'"]"' + b"]" * 1000,
        b"[" * 1022 + b"]" * 1022,
        b"[" * 1024 + b"]" * 1024,
    ],
)
@pytest.mark.parametrize(
    "info", [None, b'{"user":"ann","client":"c","conn_info":{"n":1.5},"chan_info":null}']
)
@pytest.mark.parametrize("tags", [None, b"{}", b'{"k":"v"}'])
@pytest.mark.parametrize(("offset", "time"), [(0, None), (4096, None), (4096, 1763950000000), (0, 5)])
def test_a_publication(
    data: bytes, info: bytes | None, tags: bytes | None, offset: int, time: int | None
) -> None:
    """All that its JSON says; of the payload each byte."""
    publication = Publication((1, 0), offset, data, info, tags, time)
    message, tagged = wire.Publication(), wire.Publication()
    fill_publication(message, publication.json)
    fill_publication(tagged, publication.snapshot())
    told = (message.offset, message.time, dict(message.tags))
    assert message.data == tagged.data == data
    assert told == (offset, time or 0, orjson.loads(tags or b"{}"))
    assert dict(tagged.tags) == {**message.tags, "snapshot": "true"}
    assert content(message.info) == ({} if info is None else orjson.loads(info))


def test_what_a_producer_wrote_into_info() -> None:
    """What is of another type than the schema's is left out: it must not keep the rest from the client."""
    message = wire.Publication()
    fill_publication(message, b'{"data":1,"info":{"user":7,"client":null,"conn_info":[1],"other":{}}}')
    assert content(message) == {"data": 1, "info": {"conn_info": [1]}}


def test_names_that_the_schema_lacks() -> None:
    """They are passed over."""
    error = wire.Error()
    fill(error, {"code": 111, "message": "wait", "temporary": True, "retry_after": 1.5})
    assert content(error) == {"code": 111, "message": "wait", "temporary": True}


def test_the_numbers_are_those_of_the_protocol() -> None:
    """Field by field the same as in the official SDK's schema."""
    for name, message in wire.DESCRIPTOR.message_types_by_name.items():
        theirs = official.DESCRIPTOR.message_types_by_name[name].fields_by_name
        for field in message.fields:
            if (name, field.name) == ("SubscribeRequest", "type"):  # newer than that SDK
                continue
            same = theirs[field.name]
            assert (field.number, field.type) == (same.number, same.type), f"{name}.{field.name}"
            assert field.is_repeated == same.is_repeated


def test_the_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    root = Path(str(files("service"))).parent
    made = ["--python_out", str(tmp_path), "--pyi_out", str(tmp_path)]
    run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(root), *made, "service/wire/client.proto"],
        cwd=root,
        check=True,
        timeout=60,
    )
    for name in ("client_pb2.py", "client_pb2.pyi"):
        assert filecmp.cmp(tmp_path / "service/wire" / name, root / "service/wire" / name, shallow=False)
