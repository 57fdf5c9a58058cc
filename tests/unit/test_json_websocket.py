"""transports.json_websocket: a batch is one text frame for each publication, in order."""

import orjson
import pytest

from service.transports.json_websocket import JSON_WEBSOCKET
from tests.unit.fakes.fanout import publication
from tests.unit.fakes.frames import TEXT, server_frames


@pytest.mark.parametrize("channel", ["chat:a", 'chat:"quoted"', "chat:é😀"])
@pytest.mark.parametrize("numbers", [[1], [1, 2, 3]])
def test_publications(channel: str, numbers: list[int]) -> None:
    """Each is a push that names the channel, whatever characters that has."""
    frames = server_frames(JSON_WEBSOCKET.publications(channel, [publication(n) for n in numbers]))
    assert [opcode for opcode, _ in frames] == [TEXT] * len(numbers)
    for number, (_, payload) in zip(numbers, frames, strict=True):
        assert orjson.loads(payload) == {
            "push": {"channel": channel, "pub": {"data": {}, "offset": number << 12}}
        }
