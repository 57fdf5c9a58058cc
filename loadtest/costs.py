"""What a process costs, as the kernel counts it."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from loadtest.errors import BenchError


def cpu_ns(pid: int) -> int:
    """CPU time of a process so far, all its threads, user and system, in nanoseconds."""
    # clock_getcpuclockid(3), which Python does not offer: the inverted pid in the upper bits, 2 for
    # the scheduler's own nanoseconds. /proc/<pid>/stat has the same sum in ticks of 10 ms.
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        raise BenchError(f"process {pid} ended while it was measured") from None


def pin(pid: int, core: int) -> None:
    """Let all threads of a process run on this core alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def rss_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    return _status(pid, "VmRSS")


def reset_peak_rss(pid: int) -> None:
    """Begin to remember the peak of a process's resident memory afresh."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory of a process since `reset_peak_rss`."""
    return _status(pid, "VmHWM")


def _status(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # as for a process that has ended and not been waited for, which has no such line
    raise BenchError(f"process {pid} ended while it was measured")


def machine_cpu_seconds() -> float:
    """CPU time that all cores have spent so far on anything."""
    ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    """CPU time that this process has spent so far, and all its descendants that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def raise_open_files(needed: int) -> None:
    """Let this process and its children open as many files as the hard limit allows.

    Raises:
        BenchError: that is less than `needed`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} open files are needed and {hard} allowed; raise `ulimit -Hn`")
