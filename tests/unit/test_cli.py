"""cli: what is typed, what is answered, and how mistakes are told."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from redis import Redis as SyncRedis

from service import __version__, cli, server
from service.config import Settings
from service.tools import demo
from tests.support.processes import free_port
from tests.support.redis_process import RedisProcess

_ROOT = Path(__file__).parents[2]
COMMANDS = ("serve", "demo", "publish", "subscribe", "replay", "token", "check")


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """What a failing command line says: one line on stderr, nothing on stdout."""
    assert cli.main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("streamgate: ")
    return err.removeprefix("streamgate: ").strip()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists the commands; each has a help of its own with an example."""
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"\b{command} {{2}}", overview)
        assert cli.main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"Usage: streamgate {command}" in text
        assert re.search(rf"Example.*streamgate {command}", text, re.DOTALL)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version is one line."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"streamgate {__version__}\n"


def test_help_is_reflowed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines end where the terminal does, not where those of the source do."""
    assert cli.main(["serve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "then from the defaults. SIGTERM (and Ctrl-C) drains" in text
    (serve,) = [command for command in cli.app.registered_commands if command.callback is cli.serve]
    assert "file, then from the defaults. SIGTERM" in (serve.help or "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux' device that is always full")
@pytest.mark.parametrize("command", [["--help"], ["check"]])
def test_output_that_cannot_be_written(command: list[str]) -> None:
    """A full disk is no bug of ours."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "service", *command], cwd=_ROOT, stdout=full, stderr=subprocess.PIPE
        )
    assert (ended.returncode, ended.stderr) == (1, b"streamgate: standard output: No space left on device\n")


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A bare `streamgate` shows what there is, and is wrong usage."""
    assert cli.main([]) == 2
    assert "Commands" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["serve", "--nonsense"], "No such option: --nonsense"),
        (["serve", "--port", "99999"], "Invalid value for '--port': read '99999'; allowed: at most 65535"),
        (["demo", "--port", "x"], "Invalid value for '--port': read 'x'; allowed: a whole number"),
        (["publish", "quotes:A"], "Missing argument 'JSON'"),
        (["subscribe"], "Missing argument"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    """Wrong usage is one line that points to the help, and exit code 2."""
    said = fails(capsys, *arguments, code=2)
    assert said.startswith(problem)
    command = "streamgate" if arguments == ["nonsense"] else f"streamgate {arguments[0]}"
    assert said.endswith(f"({command} --help explains)")


def test_serve_gives_the_settings_to_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Options win over the environment, which wins over the file; the server's exit code is ours."""
    seen: list[Settings] = []

    def run(settings: Settings) -> int:
        seen.append(settings)
        return 3

    monkeypatch.setattr(server, "run", run)
    monkeypatch.setenv("STREAMGATE_SERVER__HOST", "0.0.0.0")
    file = tmp_path / "s.toml"
    file.write_text("[server]\nport = 1\nhost = 'localhost'\nadmin_port = 2\n[limits]\nconnections = 7\n")
    options = ["--port", "8123", "--workers", "2", "--redis-url", "redis://example:1/2"]
    assert cli.main(["serve", "--config", str(file), *options]) == 3
    (settings,) = seen
    assert (settings.server.port, settings.server.workers) == (8123, 2)
    assert (settings.server.host, settings.server.admin_port) == ("0.0.0.0", 2)
    assert settings.limits.connections == 7
    assert settings.redis.url.get_secret_value() == "redis://example:1/2"


def test_a_wrong_setting_is_told_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every wrong key has its line."""
    file = tmp_path / "s.toml"
    file.write_text("[server]\nport = 'x'\nprot = 1\n")
    assert cli.main(["serve", "--config", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"streamgate: {file}: server.") for line in lines)


def test_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """demo hands its options on."""
    seen: dict[str, object] = {}
    monkeypatch.setattr(demo, "run", lambda **options: seen.update(options) or 0)
    assert cli.main(["demo", "--port", "81", "-v"]) == 0
    assert seen == {"host": "127.0.0.1", "port": 81, "redis_url": None, "verbose": True}


def test_an_unexpected_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a bug of ours is no traceback."""

    def broken(**options: object) -> int:
        raise RuntimeError("oops")

    monkeypatch.setattr(demo, "run", broken)
    assert fails(capsys, "demo").startswith("RuntimeError: oops (a bug")


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_ctrl_c_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Ctrl-C ends with 130 and no word."""

    def interrupted(**options: object) -> int:
        raise error

    monkeypatch.setattr(demo, "run", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_during_imports_is_quiet(tmp_path: Path) -> None:
    """They take a while, and no traceback tells of it: neither `python -m service` nor `streamgate`."""
    (tmp_path / "typer.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(_ROOT)))}
    script = "import sys; from service.__main__ import main; sys.exit(main())"
    for start in (["-m", "service", "check"], ["-c", script, "check"]):
        ended = subprocess.run([sys.executable, *start], env=environment, cwd=tmp_path, capture_output=True)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


# publish


def test_publish_appends_and_prints_the_id(
    capsys: pytest.CaptureFixture[str], redis_process: RedisProcess
) -> None:
    """publish is an XADD of the payload as it was typed; the id is printed."""
    channel = f"quotes:{uuid.uuid4().hex}"
    assert cli.main(["publish", channel, ' {"price": 189.30} ', "--redis-url", redis_process.url]) == 0
    entry = capsys.readouterr().out.strip()
    with SyncRedis.from_url(redis_process.url) as redis:
        assert redis.xrange(channel) == [(entry.encode(), {b"data": b'{"price": 189.30}'})]


def test_publish_reads_standard_input(monkeypatch: pytest.MonkeyPatch, redis_process: RedisProcess) -> None:
    """- takes the payload from a pipe."""
    channel = f"chat:{uuid.uuid4().hex}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('{"text":"é"}\n'.encode())))
    assert cli.main(["publish", channel, "-", "--redis-url", redis_process.url]) == 0
    with SyncRedis.from_url(redis_process.url) as redis:
        ((_, fields),) = redis.xrange(channel)
    assert fields == {b"data": '{"text":"é"}'.encode()}


def test_publish_trims_to_the_namespaces_history(redis_process: RedisProcess, tmp_path: Path) -> None:
    """The stream keeps about as much as its namespace says."""
    channel = f"short:{uuid.uuid4().hex}"
    file = tmp_path / "s.toml"
    file.write_text("[namespaces.short]\nhistory_size = 1\n")
    with SyncRedis.from_url(redis_process.url) as redis:
        for number in range(500):
            redis.xadd(channel, {"data": str(number)})
        arguments = ["publish", channel, "1", "--config", str(file), "--redis-url", redis_process.url]
        assert cli.main(arguments) == 0
        assert redis.xlen(channel) < 200


@pytest.mark.parametrize(
    ("channel", "payload", "problem"),
    [
        ("quotes:A", "{price:1}", "not valid JSON: "),
        ("quotes:A", "hello", "not valid JSON: "),
        ("quotes:A", "NaN", "not valid JSON: "),
        ("quotes:A", " ", "nothing to publish: the payload is empty"),
        ("quotes:A", '"a\udcff"', "not UTF-8 text: invalid start byte at byte 3"),
        ("quotes:*", "1", "'quotes:*' is no channel: a channel name has no '*'"),
        ("quotes:", "1", "'quotes:' is no channel: "),
        ("qoutes:A", "1", "'qoutes:A' is in no configured namespace; there are quotes:…, scores:…, chat:…"),
        ("quotes:A", json.dumps("x" * 70_000), "70002 bytes of JSON; allowed: 65536"),
    ],
)
def test_publish_refuses(
    capsys: pytest.CaptureFixture[str], channel: str, payload: str, problem: str
) -> None:
    """What no node would deliver is not written; Redis is not even asked."""
    url = f"redis://127.0.0.1:{free_port()}"
    assert fails(capsys, "publish", channel, payload, "--redis-url", url).startswith(problem)


@pytest.mark.parametrize("command", [["publish", "quotes:A", "1"], ["replay", "FILE"]])
def test_redis_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    """One line names the place and the reason, and holds no password."""
    file = tmp_path / "x.csv"
    file.write_text("ts_ms,symbol,bid,ask\n1,A,1,2\n")
    port = free_port()
    arguments = [str(file) if word == "FILE" else word for word in command]
    said = fails(capsys, *arguments, "--redis-url", f"redis://:secret@127.0.0.1:{port}/0")
    assert said.startswith(f"Redis at 127.0.0.1:{port}: connection refused; start it, or name another one")


# subscribe and replay; what they do with a node and a Redis is in tests/integration.


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["quotes:A", "--url", "ws://127.0.0.1:PORT/x"], "ws://127.0.0.1:PORT/x: connection refused"),
        (["quotes:A", "--url", "http://127.0.0.1:PORT"], "http://127.0.0.1:PORT: no WebSocket URL: scheme"),
        (["quotes:A", "--url", "ws://127.0.0.1:abc/x"], "ws://127.0.0.1:abc/x: no WebSocket URL: "),
        (["a b"], "'a b' is no channel: a channel name has no ' '"),
    ],
)
def test_subscribe_refuses(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    """A server that is not there, or a wrong name, is one line."""
    port = str(free_port())
    said = fails(capsys, "subscribe", *(word.replace("PORT", port) for word in arguments))
    assert said.startswith(problem.replace("PORT", port))


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("ts_ms,symbol,bid,ask\n1,A,1,2\n", ["--speed", "0"], "--speed: read '0'; allowed: "),
        ("ts_ms,symbol,bid,ask\n1,A,1,2\n", ["--speed", "fast"], "--speed: read 'fast'; allowed: "),
        ("symbol\nA\n", [], "FILE: line 1: no column ts_ms; found symbol"),
        ("ts_ms,symbol\n1,A\nx,A\n", [], "FILE: line 3: ts_ms: read 'x'; allowed: milliseconds"),
        (None, [], "FILE: cannot be read: No such file or directory"),
        ("", [], "FILE: line 1: no column ts_ms; found nothing"),
    ],
)
def test_replay_refuses(
    capsys: pytest.CaptureFixture[str],
    redis_process: RedisProcess,
    tmp_path: Path,
    text: str | None,
    options: list[str],
    problem: str,
) -> None:
    """A wrong option or a broken file is one line that names it."""
    file = tmp_path / "feed.csv"
    if text is not None:
        file.write_text(text)
    said = fails(capsys, "replay", str(file), *options, "--redis-url", redis_process.url)
    assert said.startswith(problem.replace("FILE", str(file)))


def test_replay_of_a_directory(
    capsys: pytest.CaptureFixture[str], redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Is told as such, and not by its name's end."""
    said = fails(capsys, "replay", str(tmp_path), "--redis-url", redis_process.url)
    assert said == f"{tmp_path}: a directory; name a file in it"


def test_replay_of_half_a_file(
    capsys: pytest.CaptureFixture[str], redis_process: RedisProcess, tmp_path: Path
) -> None:
    """What could be read is written and counted; then it is said that the file was cut off."""
    symbol = uuid.uuid4().hex
    rows = "".join(f"{at},{symbol},{uuid.uuid4()}\n" for at in range(5000))
    file = tmp_path / "q.csv.gz"
    file.write_bytes(gzip.compress(f"ts_ms,symbol,x\n{rows}".encode())[:-20_000])
    arguments = ["replay", str(file), "--speed", "max", "--redis-url", redis_process.url]
    assert cli.main(arguments) == 1
    done, problem = capsys.readouterr().err.splitlines()
    assert problem == f"streamgate: {file}: ends early (cut off?)"
    with SyncRedis.from_url(redis_process.url) as redis:
        (newest,) = redis.xrevrange(f"quotes:{symbol}", count=1)
    written = int(done.partition(" entries")[0].replace(",", ""))
    assert 0 < written == json.loads(newest[1][b"data"])["ts_ms"] + 1


def test_replay_of_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, redis_process: RedisProcess
) -> None:
    """CSV and JSON lines are told apart by how they begin."""
    symbol = uuid.uuid4().hex
    for text in (f"ts_ms,symbol\n1,{symbol}\n", json.dumps({"ts_ms": 1, "symbol": symbol}) + "\n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(text.encode()))))
        assert cli.main(["replay", "-", "--redis-url", redis_process.url]) == 0
    with SyncRedis.from_url(redis_process.url) as redis:
        payloads = [json.loads(fields[b"data"]) for _, fields in redis.xrange(f"quotes:{symbol}")]
    assert payloads == [{"ts_ms": 1, "symbol": symbol}] * 2


def test_replay_reports(
    capsys: pytest.CaptureFixture[str], redis_process: RedisProcess, tmp_path: Path
) -> None:
    """replay says how much it wrote, and notes namespaces that no node here delivers."""
    file = tmp_path / "trades.csv"
    symbol = uuid.uuid4().hex
    file.write_text("ts_ms,symbol,price,size,side\n" + f"1,{symbol},2,3,buy\n" * 5)
    assert cli.main(["replay", str(file), "--limit", "3", "--redis-url", redis_process.url]) == 0
    note, done = capsys.readouterr().err.splitlines()
    assert note.startswith("note: no namespace 'trades' is configured here; add [namespaces.trades]")
    assert done.startswith("3 entries in ")
    with SyncRedis.from_url(redis_process.url) as redis:
        assert redis.xlen(f"trades:{symbol}") == 3
