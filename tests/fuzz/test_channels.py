"""channels.parse: a name is refused with a ValueError, or is safe to be a key, a pattern and a log line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.channels import MAX_CHANNEL_BYTES, label, parse
from service.config import Settings
from service.streams.keys import Keys

_SETTINGS = Settings(default_namespace="chat")


@given(st.text(st.characters(), max_size=300) | st.text("ab:*?[]{}\\ \n\té", max_size=12))
def test_parse(name: str) -> None:
    """Taken apart it is still the same name, and nothing in it breaks what it is put into."""
    try:
        parsed = parse(name)
    except ValueError as exc:
        assert str(exc).startswith("a channel name")  # noqa: PT017
        assert _SETTINGS.namespace_of(name) is None
        return
    rebuilt = parsed.rest if parsed.namespace is None else f"{parsed.namespace}:{parsed.rest}"
    assert rebuilt == name
    assert parsed.rest
    assert len(name.encode()) <= MAX_CHANNEL_BYTES
    assert len(name.split()) == 1
    assert len(name.splitlines()) == 1
    assert not set(name) & set("*?[]{}\\\0\r\n")
    assert parsed.namespace is None or ":" not in parsed.namespace
    assert label(name) == ("default" if parsed.namespace is None else parsed.namespace)


@given(st.text(max_size=20), st.text("ab:_-1", min_size=1, max_size=12))
def test_keys_and_channels_are_each_others_reverse(prefix: str, name: str) -> None:
    """Under any prefix."""
    try:
        key = Keys(prefix).stream(name).encode()
    except UnicodeEncodeError:
        return
    assert Keys(prefix).channel(key) == name


@given(st.binary(max_size=40), st.text("abc:", max_size=5))
def test_any_key_of_redis_may_come(key: bytes, prefix: str) -> None:
    """The walk over all streams meets keys of others."""
    channel = Keys(prefix).channel(key)
    assert channel is None or Keys(prefix).stream(channel).encode() == key
