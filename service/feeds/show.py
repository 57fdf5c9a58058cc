"""The demo's show: quotes all the time, one match after the other, and a chat that follows it."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from service.feeds import chat, quotes, worldcup
from service.feeds.record import Record
from service.feeds.worldcup import Event, Match

#: The match file that ships with the package (its licence is beside it, in SOURCES.md).
WORLDCUP = Path(__file__).parent / "data" / "worldcup-2022.json"

#: Milliseconds that a minute of a match lasts: a match takes about a minute.
MINUTE_MS = 500.0

#: Milliseconds between two matches, so that a final score can be read.
PAUSE_MS = 5000.0

#: Results that are known when the demo begins.
EARLIER_RESULTS = 8

#: Breaks last this many minutes of the demo's clock, not a real quarter of an hour.
_BREAK_MINUTES = 6.0


def show(rng: random.Random) -> Iterator[Record]:
    """Everything the demo publishes, endless, in time order.

    - `quotes:<symbol>`: simulated quotes;
    - `scores:live`: the match being played, once a minute of the match and at each event;
    - `scores:<game>`: the events of one match; `scores:results`: how matches ended;
    - `chat:lobby`: simulated chat.
    """
    matches = worldcup.parse(WORLDCUP.read_text(encoding="utf-8"))
    feeds = (quotes.simulate(rng), tournament(matches, rng))
    return heapq.merge(*feeds, key=lambda record: record.at_ms)


def tournament(matches: Sequence[Match], rng: random.Random) -> Iterator[Record]:
    """The matches' events and the chat about them, over and over; begins with the last, the final.

    What led there comes first, all at once: the results of the matches before it.
    """
    start = 0.0
    for match in matches[-1 - EARLIER_RESULTS : -1]:
        body = worldcup.payload(match, worldcup.events(match)[-1])
        yield Record(start, "scores:results", orjson.dumps(body))
    for match in itertools.cycle((*matches[-1:], *matches[:-1])):
        happened = _shorten_breaks(worldcup.events(match))
        feeds = (_score_board(match, happened), chat.crowd(match, happened, MINUTE_MS, rng))
        last = 0.0
        for record in heapq.merge(*feeds, key=lambda record: record.at_ms):
            last = record.at_ms
            yield record._replace(at_ms=start + last)
        start += last + PAUSE_MS


def _shorten_breaks(happened: list[Event]) -> list[Event]:
    """Move what follows a break nearer to it."""
    shortened: list[Event] = []
    cut = 0.0
    for previous, event in itertools.pairwise([happened[0], *happened]):
        if previous.kind in ("half-time", "break"):
            cut += max(0.0, event.at - previous.at - _BREAK_MINUTES)
        shortened.append(Event(event.at - cut, event.kind, event.minute, event.score, event.goal))
    return shortened


def _score_board(match: Match, happened: list[Event]) -> Iterator[Record]:
    for event, following in itertools.zip_longest(happened, happened[1:]):
        body = worldcup.payload(match, event)
        at = event.at * MINUTE_MS
        yield Record(at, f"scores:{match.game}", orjson.dumps(body))
        yield Record(at, "scores:live", orjson.dumps(body))
        if following is None:
            yield Record(at, "scores:results", orjson.dumps(body))
        elif event.kind not in ("half-time", "break", "penalties"):
            yield from _clock(match, event, following)


def _clock(match: Match, event: Event, following: Event) -> Iterator[Record]:
    """One record for each minute of play between two events."""
    regular, _, stoppage = event.minute.partition("+")
    first = int(regular)
    limit = _period_end(first, event.kind)
    passed = int(stoppage or 0)
    for step in range(1, int(following.at - event.at) + (following.at % 1 > 0)):
        minute = first + passed + step
        if minute > limit and following.kind == "penalties":
            return  # nobody plays in the minutes before the shoot-out
        shown = f"{minute}" if minute <= limit else f"{limit}+{minute - limit}"
        body = worldcup.payload(match, Event(event.at + step, "clock", shown, event.score))
        yield Record((event.at + step) * MINUTE_MS, "scores:live", orjson.dumps(body))


def _period_end(minute: int, kind: str) -> int:
    """The regular last minute of the period that `minute` is in; a period begins at the end of the last."""
    for end in (45, 90, 105, 120):
        if minute < end or (minute == end and kind == "goal"):
            return end
    return 120
