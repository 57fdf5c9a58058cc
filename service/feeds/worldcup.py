"""World Cup match files (openfootball's shape) into match events.

The events of a match each carry the whole state (`score`, teams), so that the newest alone tells
how the match stands. Times of day are ignored: matches follow each other, one at a time.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.feeds.record import Record

#: Minutes of the breaks on the replay's time line.
HALF_TIME_MINUTES = 15
EXTRA_BREAK_MINUTES = 5
PENALTIES_MINUTES = 10

#: Minutes between two matches on the replay's time line.
BETWEEN_MATCHES_MINUTES = 10

_MINUTE = re.compile(r"(\d{1,3})(?:\+(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal for team `side` (0 or 1), in `minute` plus `stoppage` minutes."""

    minute: int
    stoppage: int
    side: int
    player: str
    penalty: bool = False
    own_goal: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One match: who, where, its goals in order, and how it ended."""

    game: str
    round: str
    ground: str
    date: str
    teams: tuple[str, str]
    goals: tuple[Goal, ...]
    minutes: int  # 90, or 120 with extra time
    penalties: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something of a match, `at` minutes after its kick-off on the time line (breaks included)."""

    at: float
    kind: str
    minute: str
    score: tuple[int, int]
    goal: Goal | None = None


def parse(text: str) -> list[Match]:
    """The matches of a file, by date and time of day.

    Raises:
        ValueError: not such a file; the text names the match and what is wrong.
    """
    try:
        matches = json.loads(text)["matches"]
    except (ValueError, KeyError, TypeError):
        raise ValueError('not a match file: a JSON object with a list "matches"') from None
    parsed = []
    for number, raw in enumerate(matches, 1):
        try:
            parsed.append((str(raw["date"]), str(raw.get("time", "")), number, _match(raw)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
            raise ValueError(f"match {number}: {type(exc).__name__}: {exc}") from None
    return [match for *_, match in sorted(parsed, key=lambda item: item[:3])]


def _match(raw: dict[str, Any]) -> Match:
    score = raw["score"]
    teams = (str(raw["team1"]), str(raw["team2"]))
    length = 120 if "et" in score else 90
    goals = [
        _goal(goal, side, length)
        for side, key in enumerate(("goals1", "goals2"))
        for goal in raw.get(key) or ()
    ]
    penalties = score.get("p")
    return Match(
        game="-".join((str(raw["date"]), _slug(teams[0]), _slug(teams[1]))),
        round=str(raw.get("round", "")),
        ground=str(raw.get("ground", "")),
        date=str(raw["date"]),
        teams=teams,
        goals=tuple(sorted(goals, key=lambda goal: (goal.minute, goal.stoppage))),
        minutes=length,
        penalties=(int(penalties[0]), int(penalties[1])) if penalties else None,
    )


def _goal(raw: dict[str, Any], side: int, length: int) -> Goal:
    found = _MINUTE.fullmatch(str(raw["minute"]))
    if found is None:
        raise ValueError(f'a minute such as 45 or "45+2", not {raw["minute"]!r}')
    # A few files count stoppage time on: minute 92 of a match without extra time is 90+2.
    minute = min(int(found[1]), length)
    return Goal(
        minute=minute,
        stoppage=int(raw.get("offset") or found[2] or 0) + int(found[1]) - minute,
        side=side,
        player=str(raw["name"]),
        penalty=bool(raw.get("penalty")),
        own_goal=bool(raw.get("owngoal")),
    )


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def events(match: Match) -> list[Event]:
    """Kick-off, goals, breaks, full time and penalties of a match, in order."""
    # Each period: its label, first and last minute. Stoppage time shifts all that follows it.
    periods = [("kick-off", 0, 45), ("second-half", 45, 90)]
    if match.minutes > 90:
        periods += [("extra-time", 90, 105), ("extra-time-2", 105, 120)]
    score = [0, 0]
    clock = 0.0
    happened: list[Event] = []

    def add(kind: str, minute: str, at: float, goal: Goal | None = None) -> None:
        happened.append(Event(at, kind, minute, (score[0], score[1]), goal))

    for kind, first, last in periods:
        add(kind, f"{first}", clock)
        goals = [goal for goal in match.goals if first < max(goal.minute, 1) <= last]
        for goal in goals:
            score[goal.side] += 1
            minute = f"{goal.minute}+{goal.stoppage}" if goal.stoppage else f"{goal.minute}"
            add("goal", minute, clock + goal.minute + goal.stoppage - first, goal)
        clock += last - first + max((goal.stoppage for goal in goals if goal.minute == last), default=0)
        if last == match.minutes:
            break
        add("half-time" if last == 45 else "break", f"{last}", clock)
        clock += HALF_TIME_MINUTES if last == 45 else EXTRA_BREAK_MINUTES
    if match.penalties:
        clock += PENALTIES_MINUTES
        add("penalties", f"{match.minutes}", clock)
        clock += 1
    add("full-time", f"{match.minutes}", clock)
    return happened


def payload(match: Match, event: Event) -> dict[str, Any]:
    """What is published of an event: all that a score board shows."""
    body: dict[str, Any] = {
        "game": match.game,
        "event": event.kind,
        "minute": event.minute,
        "teams": match.teams,
        "score": event.score,
        "round": match.round,
        "ground": match.ground,
        "date": match.date,
        "length": match.minutes,
    }
    if event.goal is not None:
        body["team"] = match.teams[event.goal.side]
        body["side"] = event.goal.side
        body["player"] = event.goal.player
        if event.goal.penalty:
            body["penalty"] = True
        if event.goal.own_goal:
            body["own_goal"] = True
    if match.penalties and event.kind in ("penalties", "full-time"):
        body["penalties"] = match.penalties
    return body


def replay(matches: Sequence[Match], template: str = "scores:{game}") -> Iterator[Record]:
    """All matches, one after the other, as records in real time (a minute is a minute).

    Raises:
        ValueError: the template names something else than {game}.
    """
    start = 0.0
    for match in matches:
        try:
            channel = template.format(game=match.game)
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"the channel template {template!r}: only {{game}} can be filled") from None
        last = 0.0
        for event in events(match):
            last = event.at
            yield Record((start + event.at) * 60_000, channel, orjson.dumps(payload(match, event)))
        start += last + BETWEEN_MATCHES_MINUTES
