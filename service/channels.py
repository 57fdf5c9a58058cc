"""Channel names, and what a namespace allows and promises."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

#: Longest channel name, in bytes of UTF-8.
MAX_CHANNEL_BYTES = 255

#: The namespace that belongs to the service itself (keys beside the streams).
RESERVED_NAMESPACE = "streamgate"

# White space and control characters would break logs and line protocols; the rest are wildcards
# of Redis' SCAN and the braces of its hash tags.
_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f*?\[\]{}\\]")

NAMESPACE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

#: Who may do something, from most to least: anybody who is connected; whoever has shown who they are;
#: whoever holds a token for this channel or this action; no client at all, whatever its token says.
Access = Literal["anonymous", "authenticated", "token", "nobody"]

#: How publications reach a client that cannot keep up; see docs/delivery.md.
Mode = Literal["log", "latest", "sample"]


class Namespace(BaseModel):
    """What the channels of one namespace promise, and to whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field(
        "log",
        description="log: nothing is lost; latest: a slow client gets the newest only; "
        "sample: it goes without what its socket has no room for",
    )
    history_size: int = Field(
        1000, ge=0, description="entries a stream keeps, about; 0: publishing trims nothing"
    )
    history_ttl: int = Field(0, ge=0, description="seconds an entry is kept, about; 0: no limit by age")
    snapshot: bool = Field(False, description="send the newest entry on subscribe, tagged snapshot")
    subscribe: Access = Field("anonymous", description="who may subscribe")
    publish: Access = Field("nobody", description="which clients may publish; producers use XADD")
    history: Access = Field("anonymous", description="who may page through the history")
    presence: Access = Field("nobody", description="who may ask who is subscribed")
    numeric_fields: frozenset[str] = Field(
        frozenset(), description="flat XADD fields that become JSON numbers"
    )
    coalesce_ms: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="milliseconds to gather before a write; 0: at once"
    )
    window_size: int = Field(1000, ge=0, description="publications a node keeps in memory per channel")
    personal: bool = Field(
        False, description="only the user whose id follows the prefix has anything to do here"
    )
    auto_subscribe: bool = Field(False, description="personal: users are subscribed when they connect")
    join_leave: bool = Field(
        False, description="clients may ask for join and leave pushes; needs no presence"
    )
    chat: bool = Field(False, description="publications are chat messages, with all of docs/chat.md")
    publish_rate: float = Field(
        0,
        ge=0,
        description="publications and reactions of one user a second, on all nodes; else error 111; 0: any",
    )
    publish_burst: int = Field(10, ge=1, description="publications of one user at once")
    publication_bytes: int = Field(
        0, ge=0, description="largest payload a client may publish; 0: limits.publication_bytes"
    )
    subscribe_hook: bool = Field(False, description="ask hooks.subscribe_url")
    publish_hook: bool = Field(False, description="ask hooks.publish_url")


#: Of the streams of what is over at once: joins and leaves, who is typing. Clients see their entries as
#: pushes of the channel beside them, without offsets.
LIVE = Namespace(mode="sample", window_size=0)

#: Of the streams in which nodes write to one of them.
MAILBOX = Namespace(mode="log", window_size=0)

#: Of the stream of commands to all nodes.
CONTROL = Namespace(mode="log", window_size=0)


class ChannelName(NamedTuple):
    """A channel name, taken apart: `namespace` is None where the name has no prefix."""

    namespace: str | None
    rest: str


def parse(channel: str) -> ChannelName:
    """Take a channel name apart: `[namespace:]rest`.

    Raises:
        ValueError: the name breaks the grammar; the text says how.
    """
    if not channel:
        raise ValueError("a channel name is not empty")
    try:
        size = len(channel.encode())
    except UnicodeEncodeError:
        raise ValueError("a channel name is valid Unicode") from None
    if size > MAX_CHANNEL_BYTES:
        raise ValueError(f"a channel name has at most {MAX_CHANNEL_BYTES} bytes, not {size}")
    if found := _FORBIDDEN.search(channel):
        raise ValueError(f"a channel name has no {found.group()!r}")
    prefix, colon, rest = channel.partition(":")
    if not colon:
        return ChannelName(None, channel)
    if not rest:
        raise ValueError("a channel name has something after the namespace")
    return ChannelName(prefix, rest)


def label(channel: str) -> str:
    """The namespace part of a channel name, for metrics; "default" where there is no prefix."""
    prefix, colon, _ = channel.partition(":")
    return prefix if colon else "default"
