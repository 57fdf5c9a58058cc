"""transports.websocket: however its bytes are cut, a sequence of frames is the same messages.

And a connection gives its parser back only between two frames, outside a fragmented message.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import OPEN

from service.session.session import Session
from service.transports import websocket
from service.transports.frames import text_frame
from service.transports.parsers import Parser, Parsers
from service.transports.websocket import PIECE
from tests.unit.fakes.clock import Clock, VirtualLoop, turns
from tests.unit.fakes.frames import CLOSE, CONT, PING, PONG, TEXT, client_frame, server_frames
from tests.unit.fakes.session import World
from tests.unit.fakes.websocket import RawClient


@dataclasses.dataclass
class _Frame:
    opcode: int
    payload: bytes
    fin: bool
    width: int


@dataclasses.dataclass
class _Message:
    """A text in fragments, with control frames before each of them."""

    parts: list[bytes]
    controls: list[list[tuple[int, bytes]]]
    width: int

    def frames(self) -> Iterator[_Frame]:
        last = len(self.parts) - 1
        for i, part in enumerate(self.parts):
            for opcode, payload in self.controls[i % len(self.controls)] if self.controls else []:
                yield _Frame(opcode, payload, fin=True, width=0)
            yield _Frame(CONT if i else TEXT, part, fin=i == last, width=self.width)


@st.composite
def _messages(draw: st.DrawFn) -> _Message:
    text = draw(st.text("aé€😀\n{}", max_size=40) | st.sampled_from(["", "x" * 125, "x" * 126, "x" * 5000]))
    raw = text.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    parts = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)])]
    control = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
    controls = draw(st.lists(st.lists(control, max_size=2), max_size=3))
    smallest = 0 if max(map(len, parts)) < 126 else 2
    width = draw(st.sampled_from([0, 0, 0, 8] if smallest else [0, 0, 0, 2, 8]))
    return _Message(parts, controls, width)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    st.lists(_messages(), max_size=6),
    st.lists(st.integers(0, 10**6), max_size=12),
    st.booleans(),
    st.binary(min_size=4, max_size=4),
    st.booleans(),
)
def test_any_split_gives_the_same_messages(
    messages: list[_Message], cuts: list[int], every_byte: bool, mask: bytes, slow: bool
) -> None:
    """Texts in order, each ping answered in order, and no parser kept where none is needed.

    When parsing is `slow` its slice is over after each piece, and the rest waits for the next turn.
    """
    frames = [frame for message in messages for frame in message.frames()]
    encoded = [client_frame(f.payload, f.opcode, fin=f.fin, mask=mask, width=f.width) for f in frames]
    data = b"".join(encoded)
    pieces = (
        [data[i : i + 1] for i in range(len(data))] if every_byte and len(data) < 1000 else _cut(data, cuts)
    )
    # Where no frame is under way, and no message.
    boundaries, at = {0}, 0
    in_message = False
    for frame, raw in zip(frames, encoded, strict=True):
        at += len(raw)
        if frame.opcode in (TEXT, CONT):
            in_message = not frame.fin
        if not in_message:
            boundaries.add(at)
    exact = all(frame.width == 0 for frame in frames)

    async def run(patch: pytest.MonkeyPatch) -> None:
        world = World(commands_burst=10**6)
        parsers = Parsers(world.settings.limits.message_bytes)
        client = RawClient(world, parsers)
        received: list[bytes] = []
        patch.setattr(Session, "receive", lambda session, message: received.append(message))
        patch.setattr(websocket, "time", Clock(step=float(slow)))
        sent = 0
        for piece in pieces:
            client.send(piece)
            sent += len(piece)
            await turns(len(piece) // PIECE + 2)  # reading is paused until all is parsed
            assert not client.transport.paused
            if client.connection._parser is None:
                assert sent in boundaries
            elif exact:
                assert sent not in boundaries
            for kept in parsers._kept:
                _assert_fresh(kept)
        assert received == [b"".join(message.parts) for message in messages]
        pings = [frame.payload for frame in frames if frame.opcode == PING]
        assert client.frames() == [(PONG, payload) for payload in pings]
        client.end()

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run(patch))


def _assert_fresh(parser: Parser) -> None:
    """It is as good as one that was made just now."""
    assert parser.state is OPEN
    assert not parser.expect_continuation_frame
    assert parser.reader.buffer == b""
    assert parser.events_received() == []
    assert parser.data_to_send() == []


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_end_in_silence_or_a_close(data: bytes, cuts: list[int]) -> None:
    """Garbage is answered with a close code of RFC 6455 or of the protocol, never with an exception."""

    async def run() -> None:
        world = World()
        client = RawClient(world, Parsers(world.settings.limits.message_bytes))
        for piece in _cut(data, cuts):
            if not client.transport.is_closing():
                client.send(piece)
        codes = [int.from_bytes(p[:2], "big") for opcode, p in client.frames() if opcode == CLOSE and p]
        assert set(codes) <= {1000, 1002, 1003, 1007, 1009, *range(3000, 5000)}
        assert 3004 not in codes
        assert len(codes) <= 1
        client.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


@given(st.binary(max_size=200) | st.sampled_from([b"x" * n for n in (125, 126, 127, 65_535, 65_536, 70_000)]))
def test_a_servers_frame_is_read_by_a_client(payload: bytes) -> None:
    """Text frames of every length are those of RFC 6455."""
    assert server_frames(text_frame(payload) * 2) == [(TEXT, payload)] * 2
