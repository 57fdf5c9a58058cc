"""Recorded feeds: CSV, JSON lines and match files, plain or gzipped, into records.

A row needs a `ts_ms`, milliseconds on any clock; its channel comes from a template such as
`quotes:{symbol}`, filled from the row's own fields.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, TextIO, cast

import orjson

from service import channels
from service.feeds import worldcup
from service.feeds.record import Record

#: The JSON grammar of numbers: such a CSV value is passed on as it is written, digit by digit.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,18})?")

#: The name of standard input.
STDIN = Path("-")

#: The field that holds a row's time.
TIME_FIELD = "ts_ms"


def read(path: Path, template: str | None = None) -> Iterator[Record]:
    """The records of a file, in its order.

    Args:
        path: `*.csv`, `*.jsonl` or a match file `*.json`, each also with `.gz`; `-` is standard input,
            CSV or JSON lines.
        template: makes a row's channel; None: guessed from the fields.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file, or a line of it, has not the expected shape; the text names the line.
    """
    kind = _kind(path)
    with _open(path) as text:
        try:
            if kind == "csv":
                yield from _read_csv(text, template)
            elif kind == "jsonl":
                yield from _read_jsonl(text, template)
            else:
                yield from worldcup.replay(worldcup.parse(_decoded(text.read())), template or "scores:{game}")
        except EOFError:
            raise ValueError("ends early (cut off?)") from None
        except (gzip.BadGzipFile, zlib.error) as exc:
            raise ValueError(f"not a gzip file, or a damaged one: {exc}") from None


def count(path: Path) -> int | None:
    """How many rows a file has, to show progress against; None where that cannot be known."""
    if path == STDIN or _kind(path) == "json":
        return None
    try:
        with _open(path) as text:
            lines = sum(1 for line in text if line.strip())
    except (EOFError, gzip.BadGzipFile, zlib.error):  # told when it is read
        return None
    return lines - (1 if _kind(path) == "csv" else 0)


def guess_template(fields: Mapping[str, Any]) -> str:
    """The channels that rows with these fields belong to.

    Raises:
        ValueError: nothing is known of such rows.
    """
    if "symbol" in fields:
        trade = {"price", "size", "side"} <= fields.keys()
        return "trades:{symbol}" if trade else "quotes:{symbol}"
    if "room" in fields:
        return "chat:{room}"
    if "game" in fields:
        return "scores:{game}"
    raise ValueError(f"no channel for rows of {', '.join(fields)}: name one, such as --channel feed:{{id}}")


def _kind(path: Path) -> str:
    if path == STDIN:
        # Typed as BinaryIO, which has no peek; it is a BufferedReader.
        return "jsonl" if cast(io.BufferedReader, sys.stdin.buffer).peek(1)[:1] == b"{" else "csv"
    if path.is_dir():
        raise IsADirectoryError
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = suffixes[-1].removeprefix(".") if suffixes else ""
    if kind == "ndjson":
        return "jsonl"
    if kind not in ("csv", "jsonl", "json"):
        raise ValueError("not a name that ends in .csv, .jsonl or .json (each also with .gz)")
    return kind


def _open(path: Path) -> TextIO:
    # What is no UTF-8 gets through to whoever knows the number of the line.
    if path == STDIN:
        return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape", newline="")
    if path.suffix == ".gz":
        # Opened here, so that a missing file is an OSError that names it, before gzip reads a byte.
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def _decoded(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8 text") from None
    return text


def _time(value: Any) -> float:
    try:
        at = float(value)
    except (TypeError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        raise ValueError(f"{TIME_FIELD}: read {value!r}; allowed: milliseconds, a number")
    return at


class _Channel:
    """Fills a template from rows; remembers the channels it has made and checked."""

    def __init__(self, template: str, fields: Mapping[str, Any]) -> None:
        self._template = template
        try:
            self._names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        except ValueError as exc:
            raise ValueError(f"the channel template {template!r}: {exc}") from None
        for name in self._names:
            if name not in fields:
                raise ValueError(f"the channel template names {{{name}}}; a row has {', '.join(fields)}")
        self._known: dict[tuple[str, ...], str] = {}

    def of(self, row: Mapping[str, Any]) -> str:
        values = tuple(str(row[name]) for name in self._names)
        channel = self._known.get(values)
        if channel is None:
            channel = self._template.format(**dict(zip(self._names, values, strict=True)))
            try:
                channels.parse(channel)
            except ValueError as exc:
                raise ValueError(f"channel {channel!r}: {exc}") from None
            self._known[values] = channel
        return channel


def _read_csv(text: TextIO, template: str | None) -> Iterator[Record]:
    rows = csv.reader(text, strict=True)
    try:
        header = [_decoded(name) for name in next(rows, [])]
        if TIME_FIELD not in header:
            raise ValueError(f"line 1: no column {TIME_FIELD}; found {', '.join(header) or 'nothing'}")
        if len(set(header)) != len(header):
            raise ValueError("line 1: two columns have one name")
        fields = dict.fromkeys(header)
        channel = _Channel(template or guess_template(fields), fields)
        time_index = header.index(TIME_FIELD)
        names = [json.dumps(name) + ":" for name in header]
        for values in rows:
            if not values:
                continue
            if len(values) != len(header):
                raise ValueError(f"{len(values)} values for {len(header)} columns")
            row = dict(zip(header, values, strict=True))
            pairs = [name + _literal(value) for name, value in zip(names, values, strict=True)]
            data = _decoded("{" + ",".join(pairs) + "}")
            yield Record(_time(values[time_index]), channel.of(row), data.encode())
    except (ValueError, csv.Error) as exc:
        raise ValueError(_located(exc, rows.line_num)) from None


def _literal(value: str) -> str:
    return value if _NUMBER.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _read_jsonl(text: TextIO, template: str | None) -> Iterator[Record]:
    channel: _Channel | None = None
    for number, line in enumerate(text, 1):
        stripped = line.strip()
        if not stripped:
            continue
        try:
            row = orjson.loads(_decoded(stripped))
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            if TIME_FIELD not in row:
                raise ValueError(f"no field {TIME_FIELD}; found {', '.join(row) or 'nothing'}")
            if channel is None:
                channel = _Channel(template or guess_template(row), row)
            yield Record(_time(row[TIME_FIELD]), channel.of(row), stripped.encode())
        except KeyError as exc:
            raise ValueError(_located(f"no field {exc.args[0]}", number)) from None
        except (ValueError, TypeError) as exc:
            raise ValueError(_located(exc, number)) from None


def _located(problem: object, line: int) -> str:
    text = str(problem)
    return text if text.startswith("line ") else f"line {line}: {text}"
