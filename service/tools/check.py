"""`streamgate check`: does the configuration hold, and is its Redis fit for it?

The Redis part asks what a node will ask: it really runs each kind of command, on a key of each
namespace that is deleted again and expires by itself should that fail.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from rich.console import Console
from rich.text import Text

from service.app import read_credentials
from service.channels import Namespace
from service.config import Settings
from service.errors import ConfigError
from service.identity import http, jwks
from service.streams import connect
from service.streams.keys import Keys
from service.streams.lua import EPOCH
from service.tools.reach import advise, describe, explain

#: ok: fine. hint: could be better. warning: works, but read this. problem: fix it before serving.
Level = Literal["ok", "hint", "warning", "problem"]

#: Oldest Redis whose commands suffice.
MIN_VERSION = (6, 2)

#: Followed channels that fit into Redis' tracking table before it evicts; the server's default is 10^6.
MIN_TRACKING_KEYS = 100_000

#: Seconds after which a probe's key is gone, should deleting it fail.
_PROBE_TTL = 60


class Finding(NamedTuple):
    """One line of the report; `fix` says what to do, where there is something to do."""

    level: Level
    text: str
    fix: str = ""


def check_settings(settings: Settings) -> list[Finding]:
    """What can be said of the settings and the files they name. They are valid, or they would not exist."""
    modes = ", ".join(f"{name} ({namespace.mode})" for name, namespace in settings.namespaces.items())
    try:
        read_credentials(settings)
        found = [Finding("ok", f"settings are valid; namespaces: {modes or 'none'}")]
    except ConfigError as exc:
        found = [Finding("problem", str(exc))]
    if not settings.namespaces:
        found.append(Finding("problem", "no namespace: no channel exists", "add a [namespaces.NAME] table"))
    shipped = Settings().namespaces
    for name, namespace in settings.namespaces.items():
        # As shipped, scores is not trimmed on purpose.
        if not namespace.history_size and not namespace.history_ttl and namespace != shipped.get(name):
            found.append(
                Finding(
                    "hint",
                    f"namespaces.{name}: nothing trims its streams",
                    "set history_size or history_ttl, or let the producers trim (XADD … MAXLEN ~ N)",
                )
            )
        if namespace != shipped.get(name):
            found += _check_namespace(settings, name, namespace)
    return found


def _check_namespace(settings: Settings, name: str, namespace: Namespace) -> list[Finding]:
    """What was asked for and cannot come about."""
    found = []
    if namespace.chat and namespace.mode != "log":
        text = f"namespaces.{name}: in mode {namespace.mode} a slow client goes without messages of the chat"
        found.append(Finding("warning", text, 'set mode = "log"'))
    if namespace.auto_subscribe and not namespace.personal:
        text = f"namespaces.{name}: auto_subscribe does nothing without personal"
        found.append(Finding("warning", text, "set personal = true, or leave auto_subscribe out"))
    asked = (namespace.subscribe, namespace.publish, namespace.history, namespace.presence)
    if ("authenticated" in asked or "token" in asked) and not _can_sign_in(settings):
        text = f"namespaces.{name}: it wants users, but nobody can say who they are"
        found.append(Finding("warning", text, "set keys in [tokens], or hooks.connect_url"))
    return found


def _can_sign_in(settings: Settings) -> bool:
    tokens = settings.tokens
    keys = tokens.hmac_secrets or tokens.hmac_secret_files or tokens.public_key_files or tokens.jwks_url
    return bool(keys or settings.hooks.connect_url)


async def check_jwks(settings: Settings) -> list[Finding]:
    """Fetch the keys of `tokens.jwks_url` once, where it is set; that they are not there is a finding."""
    url = settings.tokens.jwks_url
    if not url:
        return []
    try:
        async with http.client(connections=1) as client:
            request = client.build_request("GET", http.checked("tokens.jwks_url", url))
            body = await http.ask(client, request, seconds=jwks.TIMEOUT_SECONDS, limit=jwks.MAX_BYTES)
        keys = jwks.parse(body)
    except ConfigError:
        return []  # a finding of `check_settings`
    except (http.NoAnswer, ValueError) as exc:
        why = exc.text if isinstance(exc, http.NoAnswer) else str(exc)
        text = f"tokens.jwks_url: no keys from {http.place(url)}: {why}"
        return [Finding("problem", text, "see that it answers this machine with a JWKS")]
    return [Finding("ok", f"tokens.jwks_url gives {len(keys)} {'key' if len(keys) == 1 else 'keys'}")]


#: How each level is shown: a word, so that it reads without colours too.
_SHOWN: dict[Level, tuple[str, str]] = {
    "ok": ("  ok", "green"),
    "hint": ("hint", "cyan"),
    "warning": ("warn", "yellow"),
    "problem": (" fix", "bold red"),
}


def render(findings: Sequence[Finding], console: Console) -> int:
    """Print the report; the exit code: 1 where there is a problem, else 0."""
    for finding in findings:
        word, style = _SHOWN[finding.level]
        console.print(Text(word, style), Text(finding.text))
        if finding.fix:
            console.print(
                Text("       → "), Text(finding.fix, "dim" if finding.level == "hint" else ""), sep=""
            )
    problems = sum(finding.level == "problem" for finding in findings)
    if problems:
        console.print(Text(f"{problems} to fix before serving", "bold red"))
        return 1
    console.print(Text("ready to serve", "bold green"))
    return 0


async def check_redis(settings: Settings) -> list[Finding]:
    """Connect to the Redis of the settings and try all that a node needs.

    Returns what was found; a Redis that cannot be reached is a finding, not an error.
    """
    redis = connect.client(settings.redis)
    place = describe(settings)
    try:
        await redis.ping()
    except (RedisError, OSError, TimeoutError) as exc:
        await redis.aclose()
        return [Finding("problem", f"Redis at {place}: {explain(exc)}", advise(exc))]
    try:
        found = [Finding("ok", f"Redis at {place} answers")]
        found += await _check_server(redis)
        found += await _check_config(redis)
        found += await _check_tracking(redis)
        found += await _check_permissions(redis, settings)
        return found
    except (RedisError, OSError, TimeoutError) as exc:
        return [
            Finding("problem", f"Redis at {place}: {explain(exc)}", "see why it went away, and try again")
        ]
    finally:
        await redis.aclose()


async def _check_server(redis: Redis) -> list[Finding]:
    try:
        info: Mapping[str, Any] = await redis.info()
    except NoPermissionError:
        return [Finding("warning", "INFO is not allowed: the version cannot be checked", "allow +info")]
    found = []
    valkey = "valkey_version" in info
    text = str(info.get("valkey_version" if valkey else "redis_version", "0"))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    name = f"{'Valkey' if valkey else 'Redis'} {text}"
    if not valkey and version < MIN_VERSION:
        found.append(Finding("problem", f"{name} is too old", "use Redis 6.2 or later, or Valkey"))
    else:
        found.append(Finding("ok", name))
    found += _check_advisories(name, version, valkey=valkey)
    if info.get("role") == "slave":
        found.append(Finding("problem", "this Redis is a replica: it takes no writes", "name the primary"))
    if info.get("cluster_enabled"):
        found.append(
            Finding("problem", "this Redis is part of a Cluster, which is not supported", "name a single one")
        )
    return found


def _check_advisories(name: str, version: tuple[int, ...], *, valkey: bool) -> list[Finding]:
    if valkey:
        return []
    if (7, 2, 0) <= version <= (8, 6, 2):
        return [
            Finding(
                "warning",
                f"{name} is affected by CVE-2026-23479 (blocking commands), unless its vendor patched it",
                "use Redis 8.6.3 or later, a patched build, or Valkey",
            )
        ]
    if version < (6, 2, 16):
        return [
            Finding(
                "warning",
                f"{name} is affected by CVE-2024-31228 (patterns without bound)",
                "use Redis 6.2.16 or later, or let nobody but trusted programs reach it",
            )
        ]
    return []


async def _check_config(redis: Redis) -> list[Finding]:
    names = ("maxmemory", "maxmemory-policy", "tracking-table-max-keys", "appendonly", "save")
    values: dict[str, str] = {}
    try:
        for name in names:  # one by one: Redis 6.2 takes a single name
            read = await redis.config_get(name)
            values |= {_text(key): _text(value) for key, value in read.items() if key and value}
    except ResponseError:
        return [
            Finding(
                "hint",
                "CONFIG GET is not allowed: maxmemory-policy and others cannot be checked",
                "see that maxmemory-policy is noeviction",
            )
        ]
    found = []
    policy, bounded = values.get("maxmemory-policy", "noeviction"), values.get("maxmemory", "0") != "0"
    if policy == "noeviction":
        found.append(Finding("ok", "maxmemory-policy is noeviction"))
    else:
        level: Level = "problem" if bounded else "warning"
        effect = (
            "streams will be evicted when memory is full"
            if policy.startswith("allkeys")
            else ("keys with a time to live will be evicted when memory is full")
        )
        fix = "CONFIG SET maxmemory-policy noeviction (and in redis.conf)"
        found.append(Finding(level, f"maxmemory-policy is {policy}: {effect}", fix))
    tracking = int(values.get("tracking-table-max-keys", "0"))
    if 0 < tracking < MIN_TRACKING_KEYS:
        fix = "CONFIG SET tracking-table-max-keys 1000000 (a node follows its clients' channels by it)"
        found.append(Finding("warning", f"tracking-table-max-keys is only {tracking}", fix))
    else:
        found.append(Finding("ok", f"tracking-table-max-keys is {tracking or 'without bound'}"))
    # Whoever switched snapshots off as well knows that nothing outlives a restart.
    if values.get("appendonly") == "no" and values.get("save"):
        found.append(
            Finding(
                "hint", "appendonly is no: a restart loses the newest entries", "CONFIG SET appendonly yes"
            )
        )
    return found


async def _check_tracking(redis: Redis) -> list[Finding]:
    client = redis.client()  # a connection of its own: tracking is a connection's state
    try:
        await client.initialize()
        for switch in ("ON", "OFF"):
            await client.execute_command("CLIENT", "TRACKING", switch)  # type: ignore[no-untyped-call]
    except ResponseError as exc:
        return [
            Finding(
                "warning",
                f"RESP3 client tracking is refused ({exc}): nodes will poll, at more cost",
                "allow +client|tracking, or connect past the proxy",
            )
        ]
    finally:
        await client.aclose()
    return [Finding("ok", "RESP3 and client tracking work")]


async def _check_permissions(redis: Redis, settings: Settings) -> list[Finding]:
    """Run each command a node needs, on a channel of each namespace."""
    refused: dict[str, None] = {}
    keys = Keys(settings.redis.key_prefix)
    for name, namespace in settings.namespaces.items():
        channel = f"{name}:streamgate-check-{secrets.token_hex(8)}"
        stream, epoch = keys.stream(channel), keys.epoch(channel)
        for command in _channel_commands(stream, epoch, namespace):
            await _try(redis, command, refused, f"on {settings.redis.key_prefix}{name}:*")
        # What the probe leaves behind; a node needs neither command, so a refusal is none of its business.
        for command in (("EXPIRE", stream, _PROBE_TTL), ("DEL", stream), ("DEL", epoch)):
            await _try(redis, command, {}, "")
    for command in _node_commands(keys):
        await _try(redis, command, refused, "on streamgate:*")
    try:
        async with redis.pipeline(transaction=True) as transaction:
            transaction.execute_command("TIME")
            await transaction.execute()
    except NoPermissionError:
        refused["MULTI and EXEC"] = None
    if not refused:
        return [Finding("ok", "all commands that a node needs are allowed")]
    return [
        Finding("problem", f"not allowed: {what}", "give this user the command and the keys (ACL SETUSER)")
        for what in refused
    ]


Command = tuple[str | int, ...]


def _channel_commands(stream: str, epoch: str, namespace: Namespace) -> list[Command]:
    size = namespace.history_size or 1000
    return [
        ("XADD", stream, "MAXLEN", "~", size, "*", "data", "null"),
        ("XREAD", "COUNT", 1, "STREAMS", stream, "0-0"),
        ("XRANGE", stream, "-", "+", "COUNT", 1),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("XINFO", "STREAM", stream),
        ("XTRIM", stream, "MAXLEN", "~", size),
        ("EVAL", EPOCH.decode(), 2, stream, epoch, "check", _PROBE_TTL),
        ("GET", epoch),
    ]


def _node_commands(keys: Keys) -> list[Command]:
    return [
        # Not the lease itself: while that is held nobody trims.
        ("SET", keys.trim_lease() + "check", "1", "NX", "PX", 1),
        ("SCAN", 0, "COUNT", 1, "TYPE", "stream"),
        ("TIME",),
    ]


async def _try(redis: Redis, command: Command, refused: dict[str, None], where: str) -> None:
    try:
        await redis.execute_command(*command)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        refused[f"{command[0]} {where}"] = None
    except ResponseError as exc:
        # Redis checks a script's own commands as they run, and says so in its own words.
        if "permission" in str(exc).lower() or "unknown command" in str(exc).lower():
            refused[f"{command[0]} {where} ({exc})"] = None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
