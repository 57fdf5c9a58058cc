"""`streamgate replay`: a recorded feed into streams, with progress."""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from service.config import Settings
from service.errors import StreamgateError
from service.feeds import files
from service.feeds.record import Record
from service.feeds.writer import write
from service.streams.link import Link

#: History of a channel whose namespace is not configured, as the producer examples have it.
DEFAULT_MAXLEN = 1000


class ReplayFailed(StreamgateError):
    """A file cannot be replayed; the text names it and says why."""


class _Rate(ProgressColumn):
    """Entries a second, over the last moments."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s", style="progress.data.speed")


async def play(
    path: Path, settings: Settings, *, speed: float | None, template: str | None, limit: int
) -> None:
    """Write the file's records to their streams.

    Args:
        path: what `feeds.files.read` understands.
        settings: which Redis, and how long streams are kept.
        speed: times faster than recorded; None: as fast as Redis takes them.
        template: makes a row's channel; None: guessed from its fields.
        limit: records at most; 0: all.

    Raises:
        ReplayFailed: the file cannot be read or is not of a known shape.
        CommandFailed: Redis refused an entry.
        Unavailable: Redis cannot be reached, or went away.
    """
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        _Rate(),
        TimeElapsedColumn(),
    )
    link = await Link.open(settings.redis)
    started = time.monotonic()
    written = 0
    whole = False
    try:
        total = files.count(path)
        records = itertools.islice(files.read(path, template), limit or None)
        console = Console(stderr=True, highlight=False)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(path.name, total=min(total, limit) if total and limit else total)

            def note_written(entries: int) -> None:
                nonlocal written
                written += entries
                progress.advance(task, entries)

            await write(
                _noting_unknown(records, settings, lambda text: console.print(text, markup=False)),
                link.call,
                speed=speed,
                key_prefix=settings.redis.key_prefix,
                maxlen=functools.cache(lambda channel: _maxlen(settings, channel)),
                on_batch=note_written,
            )
        whole = True
    except IsADirectoryError:
        raise ReplayFailed(f"{path}: a directory; name a file in it") from None
    except OSError as exc:
        raise ReplayFailed(f"{path}: cannot be read: {exc.strerror or exc}") from None
    except ValueError as exc:
        raise ReplayFailed(f"{path}: {exc}") from None
    finally:
        link.close()
        if whole or written:  # also after Ctrl-C or an error
            seconds = time.monotonic() - started
            rate = written / seconds if seconds else 0
            sys.stderr.write(f"{written:,} entries in {seconds:,.1f} s ({rate:,.0f}/s)\n")


def _maxlen(settings: Settings, channel: str) -> int:
    namespace = settings.namespace_of(channel)
    return DEFAULT_MAXLEN if namespace is None else namespace.history_size


def _noting_unknown(
    records: Iterator[Record], settings: Settings, note: Callable[[str], None]
) -> Iterator[Record]:
    """Pass the records on; say once of each namespace that no node delivers it."""
    noted: set[str] = set()
    for record in records:
        prefix = record.channel.partition(":")[0]
        if prefix not in noted:
            noted.add(prefix)
            if settings.namespace_of(record.channel) is None:
                note(f"note: no namespace {prefix!r} is configured here; add [namespaces.{prefix}] to nodes")
        yield record
