"""transports.parsers: parsers are lent, and kept in bounds."""

import pytest
from websockets.frames import Frame, Opcode

from service.transports.parsers import KEPT, OPEN, Parsers, size_on_wire
from tests.unit.fakes.frames import client_frame


def test_a_parser_is_open_and_bounded() -> None:
    """It reads a client's frames from the first, up to the largest message."""
    parser = Parsers(1000).take()
    parser.receive_data(client_frame(b"x" * 1000))
    (event,) = parser.events_received()
    assert isinstance(event, Frame)
    assert parser.state is OPEN
    parser.receive_data(client_frame(b"x" * 1001))
    assert parser.state is not OPEN


def test_what_is_given_back_is_lent_again() -> None:
    """Two that are out are two."""
    parsers = Parsers(1000)
    one, other = parsers.take(), parsers.take()
    assert one is not other
    parsers.give_back(one)
    assert parsers.take() is one


def test_no_more_are_kept_than_needed() -> None:
    """A crowd that has spoken once leaves no crowd of parsers."""
    parsers = Parsers(1000)
    crowd = [parsers.take() for _ in range(KEPT + 10)]
    for parser in crowd:
        parsers.give_back(parser)
    kept = {id(parsers.take()) for _ in range(KEPT + 10)}
    assert len(kept & {id(parser) for parser in crowd}) == KEPT


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_size_on_wire(size: int) -> None:
    """A frame's bytes with its head and mask, as a client writes it without waste."""
    assert size_on_wire(Frame(Opcode.TEXT, b"x" * size)) == len(client_frame(b"x" * size))


def test_size_on_wire_is_the_least() -> None:
    """A length written longer than needed is not seen: then the parser is kept, which does no harm."""
    assert size_on_wire(Frame(Opcode.TEXT, b"x")) < len(client_frame(b"x", width=8))
