"""The sections of the settings: what can be configured, within which bounds, and what it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from service import redis_url

#: An Origin header as browsers write it; "null" is a page from a file.
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _http_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://\S+", value):
        raise ValueError("a URL that begins with http:// or https://, or nothing")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class ServerSettings(_Section):
    """Where the node listens, and how it goes down."""

    host: str = Field("127.0.0.1", description="address that clients connect to")
    port: int = Field(8000, ge=0, le=65535, description="port that clients connect to; 0: any free one")
    admin_host: str = Field("127.0.0.1", description="address of probes and metrics")
    admin_port: int = Field(
        9000, ge=0, le=65535, description="port of probes and metrics of worker 0; worker i: + i"
    )
    workers: int = Field(1, ge=1, le=256, description="whole nodes on this machine, one per core")
    backlog: int = Field(4096, ge=1, description="connections the kernel queues before accept")
    allowed_origins: tuple[str, ...] = Field(
        (), description='Origin headers that may connect, "*": any; empty: only the page\'s own host'
    )
    settle_seconds: float = Field(1.0, ge=0, le=600, description="unready but still accepting, on SIGTERM")
    drain_seconds: float = Field(10.0, ge=0, le=3600, description="closing all sessions is spread over this")
    demo_page: bool = Field(
        False, description="serve the demo page at /, and tokens for any name to anybody: not for production"
    )

    @field_validator("allowed_origins")
    @classmethod
    def _as_browsers_write_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"origins as browsers send them, such as https://www.example.com or "
                    f'http://localhost:3000 (scheme, host, port, all lower case), or "*"; {origin!r} is none'
                )
        return value


class RedisSettings(_Section):
    """The Redis that holds the streams."""

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// or unix:// URL; may hold a password",
    )
    key_prefix: str = Field("", description="stands before every channel in the stream's key; without braces")
    timeout_seconds: float = Field(
        1.5,
        gt=0,
        le=1.9,
        description="a command unanswered for so long fails; clients are answered within 2 s",
    )
    sweep_seconds: float = Field(
        5.0, gt=0, le=3600, description="every followed channel is read once in so long, hint or no hint"
    )
    read_interval_ms: float = Field(0, ge=0, le=1000, description="least time between two reads of the tail")
    poll_interval_ms: float = Field(
        50, ge=1, le=60_000, description="pace of reading where Redis refuses client tracking"
    )
    unfollow_seconds: float = Field(
        5.0, ge=0, le=3600, description="a channel without subscribers is followed this much longer"
    )
    trim_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="one node trims all streams once in so long; 0: never, and history_ttl is void",
    )

    @field_validator("url")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        redis_url.check(value.get_secret_value())
        return value

    @field_validator("key_prefix")
    @classmethod
    def _without_braces(cls, value: str) -> str:
        if "{" in value or "}" in value:
            raise ValueError("a text without { and }")
        return value


class Limits(_Section):
    """Bounds that keep one client, or one channel, from hurting the others."""

    connections: int = Field(50_000, ge=1, description="connections per node; beyond: HTTP 503")
    subscriptions: int = Field(128, ge=1, description="subscriptions per session; beyond: error 106")
    publication_bytes: int = Field(
        65_536, ge=1, le=16 * 2**20, description="largest payload that is published or delivered"
    )
    message_bytes: int = Field(
        131_072, ge=256, le=64 * 2**20, description="largest message from a client; beyond: close 1009"
    )
    commands_per_second: float = Field(
        100, gt=0, description="commands of one session, sustained; beyond the burst: close 3509"
    )
    commands_burst: int = Field(500, ge=1, description="commands of one session at once")
    commands_in_flight: int = Field(
        64, ge=1, description="commands of one session waiting for Redis; beyond: reading pauses"
    )
    outbox_bytes: int = Field(
        1_048_576, ge=4096, description="pending output of one session in log mode; beyond: close 3008"
    )
    outbox_total_bytes: int = Field(
        268_435_456, ge=65_536, description="pending output of all sessions; beyond: the largest is closed"
    )
    blocked_seconds: int = Field(
        120, ge=1, description="a session whose socket takes nothing for so long: close 3008"
    )
    window_total_bytes: int = Field(
        67_108_864, ge=0, description="publications kept in memory for joins and recoveries, all channels"
    )
    recovery_entries: int = Field(
        1000, ge=1, le=100_000, description="entries of one recovery; beyond: recovered:false"
    )
    history_page: int = Field(1000, ge=1, le=100_000, description="entries of one history page")
    connections_per_user: int = Field(
        0, ge=0, description="connections of one user, on all nodes; the newest is closed with 3504; 0: any"
    )
    connects_per_second: float = Field(
        1000,
        ge=0,
        description="new connections a second, sustained; beyond: HTTP 503 with Retry-After; 0: any",
    )
    connects_burst: int = Field(2000, ge=1, description="new connections at once")
    refusals_per_second: float = Field(
        1, gt=0, description="commands of one session refused for a limit, sustained; beyond: close 3509"
    )
    refusals_burst: int = Field(60, ge=1, description="refused commands of one session at once")


class ClientSettings(_Section):
    """What clients are told to do, and how long they are waited for."""

    ping_seconds: int = Field(25, ge=1, le=600, description="a ping is sent once in so long")
    pong_seconds: int = Field(8, ge=1, le=600, description="a pong unseen for so long: close 3012")
    connect_seconds: int = Field(10, ge=1, le=600, description="no connect command for so long: close 3502")
    close_seconds: int = Field(5, ge=1, le=60, description="a closing connection is aborted after so long")


class TokenSettings(_Section):
    """Who may say who they are: keys that sign tokens (JWT). All keys count, so that they can be rolled."""

    hmac_secrets: tuple[SecretStr, ...] = Field((), description="secrets of HS256, HS384 and HS512")
    hmac_secret_files: tuple[Path, ...] = Field((), description="files that hold one such secret each")
    public_key_files: tuple[Path, ...] = Field(
        (), description="PEM files of public keys: RSA (RS), elliptic curve (ES), Ed25519 (EdDSA)"
    )
    jwks_url: HttpUrl = Field("", description="where more public keys are; empty: none")
    jwks_seconds: float = Field(
        300, ge=1, le=86_400, description="keys of jwks_url are fetched anew after so long"
    )
    audience: str = Field("", description="tokens must be for it (aud); empty: not looked at")
    issuer: str = Field("", description="tokens must be from it (iss); empty: not looked at")
    leeway_seconds: float = Field(5, ge=0, le=300, description="clocks may differ by so much")


class PresenceSettings(_Section):
    """Who is where; see docs/presence.md."""

    grace_seconds: float = Field(5, ge=0, le=300, description="from a lost connection to its leave")
    batch_ms: float = Field(50, ge=1, le=1000, description="joins and leaves are written once in so long")
    heartbeat_seconds: float = Field(5, gt=0, le=60, description="a node says once in so long that it lives")
    dead_seconds: float = Field(
        15, gt=0, le=600, description="a node unheard for so long is dead, its clients left"
    )
    summary_members: int = Field(
        200, ge=0, description="in a channel with more users, summaries take the place of join and leave"
    )
    summary_seconds: float = Field(2, gt=0, le=60, description="time between two summaries")


class HookSettings(_Section):
    """Questions to the application's back end; see docs/identity.md. Empty: not asked."""

    connect_url: HttpUrl = Field("", description="asked who a client without token is")
    subscribe_url: HttpUrl = Field("", description="asked in namespaces with subscribe_hook")
    publish_url: HttpUrl = Field("", description="asked in namespaces with publish_hook")
    secret: SecretStr = Field(SecretStr(""), description="sent as `Authorization: Bearer …`")
    timeout_seconds: float = Field(1.0, gt=0, le=10, description="an answer later than this counts as none")
    retries: int = Field(1, ge=0, le=5, description="further tries after a failure, within the retry budget")
    cache_seconds: float = Field(
        0, ge=0, le=3600, description="answers to connect and subscribe are kept; 0: not"
    )
    breaker_failures: int = Field(10, ge=1, description="failures in a row after which nothing is asked …")
    breaker_seconds: float = Field(5, gt=0, le=600, description="… for so long")


class ApiSettings(_Section):
    """The server API, on the admin port."""

    keys: tuple[SecretStr, ...] = Field((), description="accepted in X-API-Key; none: the API is off")
    key_files: tuple[Path, ...] = Field((), description="files that hold one such key each")
