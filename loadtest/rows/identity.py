"""What tokens cost, and how a crowd with tokens comes back."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
from redis import Redis

from loadtest.bench import Bench
from loadtest.costs import cpu_ns, pin
from loadtest.errors import BenchError
from loadtest.figures import Figure, Target
from service.identity.tokens import TokenVerifier
from service.metrics import Metrics
from service.sections import Limits, TokenSettings
from service.streams.keys import Keys
from service.streams.position import parse_id, to_offset

#: Signs the tokens of this run.
SECRET = secrets.token_hex(32)


def token(bench: Bench) -> list[Figure]:
    """CPU of this process for checking connect tokens, each another user's."""
    count = 20_000
    verifier = TokenVerifier(TokenSettings(hmac_secrets=(SECRET,)), Metrics())
    tokens = [_token(f"user{number}") for number in range(count)]
    began = time.process_time_ns()
    for one in tokens:
        verifier.connect(one)
    spent_us = (time.process_time_ns() - began) / 1000 / count
    note = f"{count:,} tokens of {len(tokens[-1])} B with sub, exp, iat, info and caps"
    return [Figure("CPU per token check, HS256", spent_us, "µs", Target(60), note)]


def _token(user: str) -> str:
    now = int(time.time())
    claims = {
        "sub": user,
        "iat": now,
        "exp": now + 3600,
        "info": {"name": user},
        "caps": [{"channels": ["chat:*"], "allow": ["pub", "hst"], "match": "wildcard"}],
    }
    return jwt.encode(claims, SECRET, "HS256")


#: Clients of the row `storm`, their rooms, and messages that each client has missed.
CROWD, ROOMS, MISSED = 10_000, 1000, 5

PREFIX = "chat:r"

#: An entry of a room.
MESSAGE = '{"type":"message","text":"' + "x" * 100 + '"}'
INFO = '{"user":"somebody","client":"5fa1f7e4-6f6a-4b0c-8a2e-2f1f0d5c6b7a"}'

#: Recoveries that failed.
GAPS_METRIC = 'streamgate_resume_total{outcome="gap"}'


def storm(bench: Bench) -> list[Figure]:
    """10,000 users whose node is gone come to another one all at once, which knows none of their rooms."""
    settings: dict[str, dict[str, Any]] = {
        "limits": {"connects_per_second": Limits().connects_per_second},  # the default
        "tokens": {"hmac_secrets": [SECRET]},
        "namespaces.chat": {"chat": True},
    }
    with bench.lab(settings) as lab, TemporaryDirectory(prefix="streamgate-bench-") as scratch:
        commands = Path(scratch) / "commands"
        with Redis.from_url(lab.redis.url) as redis:
            commands.write_text(_commands(redis))
        pin(lab.node.pid, min(os.sched_getaffinity(0)))
        before = cpu_ns(lab.node.pid)
        seen = lab.crowd(
            connections=CROWD,
            concurrency=CROWD,
            sources=2,
            channels=ROOMS,
            commands=str(commands),
            patient=1,
        ).ask("report", "report")
        spent_us = (cpu_ns(lab.node.pid) - before) / 1000 / CROWD
        reads = lab.node.metric("streamgate_history_reads_total") or 0
        gaps = lab.node.metric(GAPS_METRIC)
    if gaps:
        raise BenchError(f"{gaps:.0f} clients of {CROWD} could not recover")
    if seen["alive"] != CROWD or seen["reply_errors"]:
        failed = f"{seen['reply_errors']} commands failed: {seen['problem']}"
        raise BenchError(f"{seen['alive']} clients of {CROWD} are in, {failed}")
    answered, joined = seen["connect_us"], seen["joined_us"]
    return [
        Figure(
            "longest wait for the answer to connect",
            answered["max"] / 1e6,
            "s",
            Target(2),
            f"p50 {answered['p50'] / 1000:.0f} ms, p99 {answered['p99'] / 1000:.0f} ms; "
            f"to subscribe at most {joined['max'] / 1e6:.2f} s",
        ),
        Figure(
            "until all are in",
            seen["in_us"]["max"] / 1e6,
            "s",
            Target(20),
            f"{seen['turned_away']:,} times 503, {reads:,.0f} reads of Redis, "
            f"{spent_us:.0f} µs of CPU a client, on one core",
        ),
    ]


def _commands(redis: Redis) -> str:
    """What each client says first: its token, and where it was in its room before the last messages came."""
    keys = Keys("")
    positions = []
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(ROOMS):
            channel = f"{PREFIX}{number}"
            pipeline.set(keys.epoch(channel), f"epoch{number}")
            for _ in range(1 + MISSED):
                pipeline.xadd(keys.stream(channel), {"data": MESSAGE, "_info": INFO})
        replies = pipeline.execute()
    for number in range(ROOMS):
        seen = replies[number * (MISSED + 2) + 1]
        positions.append({"recover": True, "epoch": f"epoch{number}", "offset": to_offset(parse_id(seen))})
    lines = []
    for number in range(CROWD):
        room = number % ROOMS
        subscribe = {"channel": f"{PREFIX}{room}", **positions[room]}
        lines.append({"id": 1, "connect": {"token": _token(f"user{number}")}})
        lines.append({"id": 2, "subscribe": subscribe})
    return "".join(json.dumps(line) + "\n" for line in lines)
