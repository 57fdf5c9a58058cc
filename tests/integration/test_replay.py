"""`streamgate replay` against a real Redis."""

import asyncio
import json
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service import config
from service.feeds import files, worldcup
from service.feeds.show import WORLDCUP
from service.tools.replay import ReplayFailed, play
from tests.support.redis_process import RedisProcess
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]


def settings(redis_process: RedisProcess, **values: object) -> config.Settings:
    """The defaults, on the worker's Redis."""
    return config.load(None, {"redis": {"url": redis_process.url}, **values})


def quotes(path: Path, symbol: str, times: list[int]) -> Path:
    """A file of quotes at those times."""
    rows = "".join(f"{at},{symbol},{number}.50,{number}.75\n" for number, at in enumerate(times))
    path.write_text("ts_ms,symbol,bid,ask\n" + rows)
    return path


async def entries_of(redis: Redis, key: str) -> list[tuple[int, bytes]]:
    """The milliseconds and the payload of each entry."""
    entries: Any = await redis.xrange(key)
    return [(int(entry.split(b"-")[0]), fields[b"data"]) for entry, fields in entries]


async def test_spacing(redis: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """Entries have the distances of the rows, by Redis' own clock, divided by the speed."""
    symbol = uuid.uuid4().hex
    path = quotes(tmp_path / "q.csv", symbol, [5_000, 5_000, 6_000, 9_000])
    await play(path, settings(redis_process), speed=10.0, template=None, limit=0)
    entries = await entries_of(redis, f"quotes:{symbol}")
    assert [json.loads(data)["bid"] for _, data in entries] == [0.5, 1.5, 2.5, 3.5]
    times = [at for at, _ in entries]
    # Never early; how late depends on the machine, and is no claim of this test.
    assert times[2] - times[0] >= 95
    assert times[3] - times[0] >= 395


async def test_everything_in_order(redis: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """At full speed each row arrives once and in order; the prefix and the template make the key."""
    symbol = uuid.uuid4().hex
    path = quotes(tmp_path / "q.csv", symbol, list(range(0, 20_000_000, 1000)))
    here = settings(
        redis_process,
        namespaces={"feed": {"history_size": 0}},
        redis={"url": redis_process.url, "key_prefix": "p:"},
    )
    await play(path, here, speed=None, template="feed:{symbol}", limit=0)
    entries = await entries_of(redis, f"p:feed:{symbol}")
    assert [data for _, data in entries] == [record.data for record in files.read(path)]


async def test_streams_are_trimmed(redis: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """A stream keeps about the history of its namespace."""
    symbol = uuid.uuid4().hex
    path = quotes(tmp_path / "q.csv", symbol, list(range(5000)))
    await play(path, settings(redis_process), speed=None, template=None, limit=0)
    assert 1000 <= await redis.xlen(f"quotes:{symbol}") < 1200


async def test_matches(redis: Redis, redis_process: RedisProcess) -> None:
    """A match file becomes one channel for each game."""
    await play(WORLDCUP, settings(redis_process), speed=None, template=None, limit=0)
    final = worldcup.parse(WORLDCUP.read_text(encoding="utf-8"))[-1]
    *_, (_, newest) = await entries_of(redis, f"scores:{final.game}")
    body = json.loads(newest)
    assert (body["event"], body["score"], body["penalties"]) == ("full-time", [3, 3], [4, 2])


async def test_a_key_that_is_no_stream(redis: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """What Redis refuses is told in its words."""
    symbol = uuid.uuid4().hex
    await redis.set(f"quotes:{symbol}", "text")
    path = quotes(tmp_path / "q.csv", symbol, [1])
    command = [sys.executable, "-m", "service", "replay", str(path), "--redis-url", redis_process.url]
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"WRONGTYPE" in err
    assert err.count(b"\n") == 1


async def test_a_broken_line_stops_where_it_is(
    redis: Redis, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Rows before a broken one may be written, none after it is, and the error names the line."""
    symbol = uuid.uuid4().hex
    path = quotes(tmp_path / "q.csv", symbol, list(range(1000)))
    path.write_text(path.read_text() + f"soon,{symbol},1,2\n" + f"9,{symbol},1,2\n")
    with pytest.raises(ReplayFailed, match="line 1002: ts_ms: read 'soon'; allowed: "):
        await play(path, settings(redis_process), speed=None, template=None, limit=0)
    assert await redis.xlen(f"quotes:{symbol}") <= 1000


async def test_ctrl_c_is_clean(redis: Redis, redis_process: RedisProcess, tmp_path: Path) -> None:
    """Ctrl-C in the middle ends with 130 and without a traceback."""
    symbol = uuid.uuid4().hex
    path = quotes(tmp_path / "q.csv", symbol, [0, 1, 3_600_000])
    command = [sys.executable, "-m", "service", "replay", str(path), "--redis-url", redis_process.url]
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stderr=asyncio.subprocess.PIPE)
    try:
        await eventually(lambda: _length(redis, f"quotes:{symbol}", 2), "the first rows are written")
        os.kill(process.pid, signal.SIGINT)
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130
    assert err.startswith(b"2 entries in ")
    assert err.count(b"\n") == 1


async def _length(redis: Redis, key: str, wanted: int) -> bool:
    return bool(await redis.xlen(key) == wanted)
