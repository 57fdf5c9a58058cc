"""channels: the grammar of channel names, and what a namespace promises where nothing is said."""

import pytest
from pydantic import ValidationError

from service.channels import MAX_CHANNEL_BYTES, NAMESPACE_NAME, ChannelName, Namespace, label, parse


@pytest.mark.parametrize(
    ("channel", "parts"),
    [
        ("quotes:AAPL", ChannelName("quotes", "AAPL")),
        ("lobby", ChannelName(None, "lobby")),
        ("chat:a:b", ChannelName("chat", "a:b")),
        (":rest", ChannelName("", "rest")),
        ("chat:café-€-😀", ChannelName("chat", "café-€-😀")),
        ("a" * MAX_CHANNEL_BYTES, ChannelName(None, "a" * MAX_CHANNEL_BYTES)),
    ],
)
def test_names_are_taken_apart_at_the_first_colon(channel: str, parts: ChannelName) -> None:
    """parse returns the namespace, None where there is no prefix, and the rest."""
    assert parse(channel) == parts


@pytest.mark.parametrize("character", list("*?[]{}\\ \t\n\r\x00\x1f\x7f\x85\xa0\u2028\u3000"))
def test_forbidden_characters(character: str) -> None:
    """White space, control characters, wildcards and braces are refused, and named."""
    with pytest.raises(ValueError, match="has no") as info:
        parse(f"chat:a{character}b")
    assert repr(character) in str(info.value)


@pytest.mark.parametrize(
    ("channel", "says"),
    [
        ("", "not empty"),
        ("chat:", "after the namespace"),
        ("a" * (MAX_CHANNEL_BYTES + 1), "at most 255 bytes, not 256"),
        ("é" * 128, "at most 255 bytes, not 256"),
        ("chat:\ud800", "valid Unicode"),
    ],
)
def test_refused_names_say_why(channel: str, says: str) -> None:
    """The text of the error says how a name breaks the grammar; length counts bytes."""
    with pytest.raises(ValueError, match=says):
        parse(channel)


def test_label_is_the_namespace_alone() -> None:
    """Metrics are labelled by namespace, never by channel."""
    assert label("quotes:AAPL") == "quotes"
    assert label("lobby") == "default"


def test_a_namespace_is_closed_to_publishers() -> None:
    """Clients may read but not publish, and nobody is shown, unless configured."""
    namespace = Namespace()
    assert (namespace.mode, namespace.subscribe, namespace.history) == ("log", "anonymous", "anonymous")
    assert (namespace.publish, namespace.presence) == ("nobody", "nobody")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "table"},
        {"publish": "everybody"},
        {"history_size": -1},
        {"history_ttl": -1},
        {"window_size": -1},
        {"coalesce_ms": 10_001},
        {"histroy_size": 1},
    ],
)
def test_a_namespace_refuses_what_it_does_not_know(wrong: dict[str, object]) -> None:
    """Unknown keys, modes and values are mistakes."""
    with pytest.raises(ValidationError):
        Namespace.model_validate(wrong)


def test_a_namespace_is_frozen() -> None:
    """What a namespace promises does not change while the node runs."""
    with pytest.raises(ValidationError):
        Namespace().mode = "latest"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "good"),
    [("chat", True), ("a-b_9", True), ("a" * 63, True), ("a" * 64, False), ("-a", False), ("Chat", False)],
)
def test_namespace_names(name: str, *, good: bool) -> None:
    """Lower-case letters, digits, - and _, not too long."""
    assert bool(NAMESPACE_NAME.fullmatch(name)) is good
