"""The producers of docs/producers.md do what the page says."""

import asyncio
import json
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.processes import absent
from tests.support.redis_process import RedisProcess, StartRedis, redis_client
from tests.support.waiting import DEADLINE

_PAGE = Path(__file__).parents[2] / "docs" / "producers.md"


def example(language: str) -> str:
    """The first block of that language."""
    found = re.search(rf"^```{language}\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    assert found[1].count("\n") == 3, "three lines each, says the page"
    return found[1]


async def produce(process: RedisProcess, program: str, *arguments: str) -> list[dict[str, object]]:
    """Run an example against a Redis; what is in the stream then."""
    child = await asyncio.create_subprocess_exec(program, *arguments, stdout=PIPE, stderr=STDOUT)
    out, _ = await asyncio.wait_for(child.communicate(), DEADLINE)
    assert child.returncode == 0, out.decode()
    redis: Redis = redis_client(process.url)
    async with redis:
        entries = await redis.xrange("quotes:AAPL")
    return [json.loads(fields[b"data"]) for _, fields in entries or [] if fields]


@pytest.mark.parametrize("language", ["python", "sh"])
async def test_an_example(start_redis: StartRedis, language: str) -> None:
    """Each example leaves one entry with the price."""
    process = start_redis()
    code = example(language).replace("redis://127.0.0.1:6379", process.url)
    if language == "python":
        entries = await produce(process, sys.executable, "-c", code)
    elif shutil.which("redis-cli"):
        entries = await produce(process, "sh", "-c", code)
    else:
        absent("redis-cli", "apt-get install redis-tools")
    assert entries == [{"price": 189.3}]
