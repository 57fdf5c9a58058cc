"""streams.keys: a channel is its stream's key, and the keys beside it share its slot."""

import pytest
from redis.crc import key_slot

from service.streams.keys import Keys


def test_without_a_prefix_the_key_is_the_channel() -> None:
    """Plain XADD by anyone is a publish."""
    assert Keys("").stream("quotes:AAPL") == "quotes:AAPL"
    assert Keys("").channel(b"quotes:AAPL") == "quotes:AAPL"


def test_a_prefix_stands_before_every_key() -> None:
    """Streams and the keys beside them are apart from those of another prefix."""
    keys = Keys("prod:")
    assert keys.stream("chat:a") == "prod:chat:a"
    assert keys.channel(b"prod:chat:a") == "chat:a"
    assert keys.epoch("chat:a") != Keys("").epoch("chat:a")
    assert keys.trim_lease() != Keys("").trim_lease()


def test_keys_of_others_are_no_channels() -> None:
    """What has another prefix, or is no text, is nobody's channel."""
    keys = Keys("prod:")
    assert keys.channel(b"test:chat:a") is None
    assert keys.channel(b"prod:\xff") is None


@pytest.mark.parametrize("prefix", ["", "prod:"])
@pytest.mark.parametrize("channel", ["chat:a", "lobby", "chat:café"])
def test_the_epoch_lives_in_the_streams_slot(prefix: str, channel: str) -> None:
    """One script may touch both in a cluster."""
    keys = Keys(prefix)
    assert key_slot(keys.epoch(channel).encode()) == key_slot(keys.stream(channel).encode())


def test_keys_beside_streams_are_in_the_reserved_namespace() -> None:
    """No channel can be named like them."""
    assert Keys("").epoch("a").startswith("streamgate:")
    assert Keys("").trim_lease().startswith("streamgate:")
