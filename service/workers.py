"""Several worker processes that start together, end together, and are replaced one by one."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

#: Seconds before a worker that died is replaced: one that dies at once must not take the machine.
RESTART_SECONDS = 1.0

#: The exit status of a worker that cannot start and has said why: another would fare no better.
CANNOT_START = 1

_STOP = (signal.SIGTERM, signal.SIGINT)


def supervise(target: Callable[..., None], arguments: tuple[Any, ...], count: int, patience: float) -> int:
    """Run `target(*arguments, index)` in `count` processes until SIGTERM or SIGINT; returns the exit status.

    Workers begin with both signals blocked, so that none is hit half-way through its imports. When
    it can be stopped, `target` calls `can_be_stopped`.

    Args:
        target: a function of a module.
        arguments: what it is given before the worker's index; can be pickled.
        count: how many.
        patience: seconds that workers have to end when they are told to; then they are killed.
    """
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # when the first worker starts it, it unblocks the signals

    def start(index: int) -> SpawnProcess:
        process = context.Process(target=target, args=(*arguments, index), name=f"streamgate-{index}")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    with _signals() as told:
        workers = [start(index) for index in range(count)]
        while True:
            # A sentinel is ready from its worker's end on: none can be missed.
            ready = wait([told, *(process.sentinel for process in workers)])
            ended = [(index, process) for index, process in enumerate(workers) if process.sentinel in ready]
            for _, process in ended:
                process.join()
            status = int(any(process.exitcode == CANNOT_START for _, process in ended))
            if status or told in ready:
                _end(workers, told, patience)
                return status
            for index, process in ended:
                sys.stderr.write(
                    f"streamgate: worker {index} ended with {process.exitcode}; starting another\n"
                )
                if not wait([told], RESTART_SECONDS):
                    workers[index] = start(index)


def can_be_stopped() -> None:
    """In a worker: from now on SIGTERM may come. Ctrl-C stays blocked: the parent hears it, and tells."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that can be read once a stop signal has come: what waits for it misses none."""
    told, wake = socket.socketpair()
    with told, wake:
        wake.setblocking(False)
        before = [signal.signal(number, lambda *_: None) for number in _STOP]
        fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            yield told
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in zip(_STOP, before, strict=True):
                signal.signal(number, handler)


def _end(workers: list[SpawnProcess], told: socket.socket, patience: float) -> None:
    """Tell all workers to end, and again with each further signal; kill those that do not."""
    deadline = time.monotonic() + patience
    told.setblocking(False)
    alive = [process for process in workers if process.is_alive()]
    for process in alive:
        process.terminate()
    with contextlib.suppress(BlockingIOError):
        told.recv(4096)
    while alive and (left := deadline - time.monotonic()) > 0:
        if told in wait([told, *(process.sentinel for process in alive)], left):
            told.recv(4096)
            for process in alive:
                process.terminate()
        alive = [process for process in alive if process.is_alive()]
    for process in alive:
        sys.stderr.write(f"streamgate: {process.name} does not end; killing it\n")
        process.kill()
        process.join()
