"""A real Redis for tests, on a free loopback port and in a directory of its own."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.errors import Unavailable
from service.streams.embedded import find_server
from tests.support.processes import ChildProcess, absent, free_port

StartRedis = Callable[..., "RedisProcess"]

#: Seconds Redis may take to load its data and listen.
_START = 20.0


def redis_client(url: str) -> Redis:
    """A client that neither retries nor waits for ever."""
    return Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0))


def _modern_server() -> str:
    try:
        binary = find_server()
    except Unavailable as exc:
        absent("Redis", str(exc))
    # Before 7.0 Redis cannot tell whether a stream was trimmed before its reader's first entry, so that
    # every join of a stream that is not there yet ends in a notice; test_old_redis.py has what is left.
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.partition(" v=")[2].partition(".")[0]) < 7:
        absent("Redis 7.0 or newer", f"{binary} is {said.strip()}")
    return binary


class RedisProcess(ChildProcess):
    """One Redis server. It keeps its port, and with `durable` its data, over restarts.

    Args:
        durable: `appendonly yes`, `appendfsync always`: what was answered survives SIGKILL.
        password: asked of every connection; part of `url`.
        binary: another server than the one that is found.
        options: more of the command line.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        password: str = "",
        binary: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        if not binary:
            binary = _modern_server()
        directory = tempfile.TemporaryDirectory(prefix="streamgate-redis-", ignore_cleanup_errors=True)
        self.port = free_port()
        self._password = password
        all_options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": directory.name,
            "--save": "",
            "--appendonly": "yes" if durable else "no",
            "--appendfsync": "always" if durable else "no",
            "--daemonize": "no",
            **(options or {}),
        }
        if password:
            all_options["--requirepass"] = password
        super().__init__([binary, *(word for pair in all_options.items() for word in pair)], directory)

    @property
    def url(self) -> str:
        """Where clients connect to it."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Its URL through a proxy that listens on `port`."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{port}/0"

    def start(self) -> None:
        """Start it and wait until it answers commands."""
        self.spawn()
        deadline = time.monotonic() + _START
        while not self._answers():
            if self.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self} did not start:\n{self.log}")
            time.sleep(0.01)

    def restart(self) -> None:
        """SIGKILL and start again on the same port."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))
