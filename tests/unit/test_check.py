"""check: what it finds in settings and in a Redis."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from jwt.algorithms import ECAlgorithm
from redis.asyncio import Redis
from rich.console import Console

from service import cli, config
from service.config import Settings
from service.tools import check
from service.tools.check import Finding
from tests.support.processes import free_port
from tests.support.redis_process import RedisProcess, StartRedis
from tests.unit.fakes.http_server import http_server, json
from tests.unit.fakes.keypairs import private_key


def settings(url: str, **values: Any) -> Settings:
    """The defaults, with that Redis."""
    return config.load(None, {"redis": {"url": url}, **values})


def texts(findings: list[Finding], level: str) -> str:
    """All findings of one level."""
    return "\n".join(f"{found.text} | {found.fix}" for found in findings if found.level == level)


async def test_a_good_redis(redis_process: RedisProcess, redis: Redis) -> None:
    """A Redis as it comes has no problem, and no probe is left in it."""
    findings = await check.check_redis(settings(redis_process.url))
    assert texts(findings, "problem") == ""
    fine = texts(findings, "ok")
    for part in ("answers", "maxmemory-policy is noeviction", "client tracking work", "commands"):
        assert part in fine
    assert [key async for key in redis.scan_iter("*check*")] == []


async def test_an_absent_redis() -> None:
    """A Redis that is not there is a finding without its password."""
    port = free_port()
    findings = await check.check_redis(settings(f"redis://:secret@127.0.0.1:{port}"))
    (finding,) = findings
    assert finding[:2] == ("problem", f"Redis at 127.0.0.1:{port}: connection refused")
    assert finding.fix.startswith("start it, or name another one")


async def test_a_wrong_password(start_redis: StartRedis) -> None:
    """So is one that refuses us."""
    process = start_redis(password="right")
    (finding,) = await check.check_redis(settings(process.url.replace("right", "wrong")))
    assert finding.level == "problem"
    assert "it refuses this user and password" in finding.text
    assert "wrong" not in finding.text


@pytest.mark.parametrize(
    ("name", "value", "level", "part"),
    [
        ("maxmemory-policy", "allkeys-lru", "warning", "streams will be evicted"),
        ("maxmemory-policy", "volatile-ttl", "warning", "keys with a time to live"),
        ("tracking-table-max-keys", "1000", "warning", "tracking-table-max-keys is only 1000"),
        ("tracking-table-max-keys", "0", "ok", "tracking-table-max-keys is without bound"),
        ("save", "60 1", "hint", "appendonly is no"),
    ],
)
async def test_settings_of_redis(
    start_redis: StartRedis,
    connect_redis: Callable[[str], Redis],
    name: str,
    value: str,
    level: str,
    part: str,
) -> None:
    """Settings of Redis that would hurt are named, with the command that mends them."""
    process = start_redis()
    await connect_redis(process.url).config_set(name, value)
    assert part in texts(await check.check_redis(settings(process.url)), level)


async def test_eviction_with_a_bound_is_a_problem(
    start_redis: StartRedis, connect_redis: Callable[[str], Redis]
) -> None:
    """With maxmemory set, evicting streams is no mere warning."""
    process = start_redis()
    redis = connect_redis(process.url)
    await redis.config_set("maxmemory", "100mb")
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    findings = await check.check_redis(settings(process.url))
    assert "CONFIG SET maxmemory-policy noeviction" in texts(findings, "problem")


async def test_acl(start_redis: StartRedis, connect_redis: Callable[[str], Redis]) -> None:
    """A user without a command, or without the keys of a namespace, is told which."""
    process = start_redis()
    redis = connect_redis(process.url)
    await redis.execute_command(  # type: ignore[no-untyped-call]
        *("ACL", "SETUSER", "gate", "on", ">pw", "~quotes:*", "~scores:*", "~streamgate:*"),
        *("&*", "+@all", "-xtrim", "-config", "-client|tracking"),
    )
    url = f"redis://gate:pw@127.0.0.1:{process.port}/0"
    findings = await check.check_redis(settings(url))
    problems = texts(findings, "problem")
    assert "not allowed: XTRIM on quotes:*" in problems
    assert "not allowed: XADD on chat:*" in problems
    assert "XADD on quotes:*" not in problems
    assert "CONFIG GET is not allowed" in texts(findings, "hint")
    assert "nodes will poll" in texts(findings, "warning")


@pytest.mark.parametrize(
    ("version", "valkey", "advisory"),
    [
        ("8.6.2", False, "CVE-2026-23479"),
        ("7.2.0", False, "CVE-2026-23479"),
        ("8.6.3", False, ""),
        ("7.0.15", False, ""),
        ("6.2.14", False, "CVE-2024-31228"),
        ("6.2.16", False, ""),
        ("8.0.1", True, ""),
    ],
)
def test_advisories(version: str, valkey: bool, advisory: str) -> None:
    """Versions with known holes are named; Valkey's numbers mean something else."""
    numbers = tuple(int(part) for part in version.split("."))
    found = check._check_advisories(version, numbers, valkey=valkey)
    assert [advisory in finding.text for finding in found] == ([True] if advisory else [])


def test_settings_without_trimming_are_a_hint() -> None:
    """A namespace that nothing trims is pointed out; no namespace at all is a problem."""
    untrimmed = {"namespaces": {"feed": {"history_size": 0}}}
    found = check.check_settings(config.load(None, untrimmed))
    assert "namespaces.feed: nothing trims" in texts(found, "hint")
    assert texts(check.check_settings(config.load(None)), "hint") == ""  # as shipped: on purpose
    assert "no channel exists" in texts(check.check_settings(config.Settings(namespaces={})), "problem")


def test_the_report() -> None:
    """Each finding has its word, each fix its arrow; a problem makes the exit code 1."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    assert check.render([Finding("ok", "fine"), Finding("hint", "[b]small[/b]", "do")], console) == 0
    assert out.getvalue().splitlines() == ["  ok fine", "hint [b]small[/b]", "       → do", "ready to serve"]
    assert check.render([Finding("problem", "bad", "mend it")], console) == 1
    assert out.getvalue().splitlines()[-1] == "1 to fix before serving"


def test_the_command(capsys: pytest.CaptureFixture[str], redis_process: RedisProcess) -> None:
    """`streamgate check` prints the report and returns its exit code."""
    assert cli.main(["check", "--redis-url", redis_process.url]) == 0
    assert "ready to serve" in capsys.readouterr().out
    assert cli.main(["check", "--redis-url", f"redis://127.0.0.1:{free_port()}"]) == 1
    assert "1 to fix" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"tokens": {"hmac_secrets": ["short"]}}, "tokens.hmac_secrets[0]: a secret of 5 bytes"),
        (
            {"tokens": {"public_key_files": ["/nowhere.pem"]}},
            "public_key_files: /nowhere.pem: cannot be read",
        ),
        ({"api": {"keys": ["short"]}}, "api: a key has fewer than 16 bytes"),
        ({"hooks": {"connect_url": "http://:1/"}}, "hooks.connect_url: not a URL"),
    ],
)
def test_what_no_node_starts_with_is_a_problem(values: dict[str, Any], part: str) -> None:
    """Keys, secrets and URLs are read as a node reads them; then nothing is called valid."""
    found = check.check_settings(config.load(None, values))
    assert part in texts(found, "problem")
    assert texts(found, "ok") == ""


@pytest.mark.parametrize(
    ("namespace", "part"),
    [
        ({"chat": True, "mode": "latest"}, "goes without messages"),
        ({"auto_subscribe": True}, "auto_subscribe does nothing"),
        ({"publish": "authenticated"}, "nobody can say who they are"),
        ({"history": "token"}, "nobody can say who they are"),
    ],
)
def test_what_cannot_come_about_is_a_warning(namespace: dict[str, Any], part: str) -> None:
    """Settings of a namespace that are void without others; with them nothing is said."""
    values: dict[str, Any] = {"namespaces": {"room": namespace}}
    assert part in texts(check.check_settings(config.load(None, values)), "warning")
    values["namespaces"]["room"] = namespace | {"mode": "log", "personal": True}
    values["hooks"] = {"connect_url": "http://127.0.0.1:1/"}
    assert texts(check.check_settings(config.load(None, values)), "warning") == ""


async def test_the_keys_of_a_url() -> None:
    """They are fetched once; without any, the tokens that they sign would all be refused."""
    assert await check.check_jwks(config.load(None)) == []
    jwk = ECAlgorithm.to_jwk(private_key("ES256", 0).public_key(), as_dict=True)
    async with http_server(json({"keys": [jwk]})) as server:
        url = f"http://user:secret@127.0.0.1:{server.port}/jwks"
        configured = config.load(None, {"tokens": {"jwks_url": url}})
        (finding,) = await check.check_jwks(configured)
        assert finding[:2] == ("ok", "tokens.jwks_url gives 1 key")
    (finding,) = await check.check_jwks(configured)
    assert finding.level == "problem"
    assert finding.text.endswith(f"no keys from http://127.0.0.1:{server.port}/jwks: it cannot be reached")
