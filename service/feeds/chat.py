"""Simulated chat: people who watch a match together, and cheer when something happens."""

from __future__ import annotations

import random
from collections.abc import Iterator

import orjson

from service.feeds.record import Record
from service.feeds.worldcup import Event, Match

#: Messages a second while nothing happens, on average.
RATE = 0.9

#: Messages in the seconds after a goal.
_CHEERS = 14

#: Milliseconds over which most cheers come.
_CHEER_MS = 2500

_PEOPLE = (
    *("mia", "leo", "sofia", "noah", "yuki", "omar", "ines", "kofi", "anna", "diego", "lena", "ravi"),
    *("zoe", "tom", "aisha", "luca", "nora", "sam", "hana", "felix", "priya", "marco", "elif", "jon"),
)

_IDLE = (
    *("what a game", "come on {home}!", "{away} looks dangerous", "that was close!!", "offside? never"),
    *("who is watching from the office?", "the referee is asleep", "corner!", "great save", "nerves..."),
    *("my stream is faster than my TV", "pass it!", "substitution now please", "{home} {home} {home}"),
    *("let's go {away}", "how was that not a card", "the bar, again", "possession means nothing"),
    *("first time I see {away} play like this", "keep calm", "hello from Lisbon", "+1", "haha", "wow"),
)
_GOAL = (
    *("GOOOOAL", "GOAL!!!", "{player}!!!", "what a strike by {player}", "YESSS", "noooo", "unbelievable"),
    *("{team}!!!", "{score}", "{score}!!", "did you see that", "{player} again?!", "{minute}' what a moment"),
    *("I missed it...", "replay please", "goosebumps", "best match ever"),
)
_PENALTY = ("cold as ice from the spot", "never a penalty", "penalty all day long")
_BY_KIND = {
    "kick-off": (
        "here we go!",
        "kick-off!",
        "good luck {home}",
        "good luck {away}",
        "{home} vs {away}, finally",
    ),
    "half-time": ("half-time, tea?", "{score} at the break", "brb", "what a half"),
    "extra-time": ("extra time!!", "my heart", "30 more minutes"),
    "penalties": ("penalties...", "I can't look", "lottery time"),
    "full-time": (
        "full time: {score}",
        "gg",
        "well played both",
        "what a match",
        "{score}, who would have thought",
    ),
}


def crowd(match: Match, events: list[Event], minute_ms: float, rng: random.Random) -> Iterator[Record]:
    """What is said in `chat:lobby` during one match, in time order.

    Args:
        match: who plays.
        events: what happens, from `worldcup.events`.
        minute_ms: milliseconds that a minute of the match lasts.
        rng: where chance comes from.
    """
    home, away = match.teams
    said: list[tuple[float, str]] = []
    end = events[-1].at * minute_ms + 4000
    at = rng.expovariate(RATE) * 1000
    while at < end:
        said.append((at, rng.choice(_IDLE).format(home=home, away=away)))
        at += rng.expovariate(RATE) * 1000
    for event in events:
        for line in _reactions(match, event, rng):
            delay = 300 + abs(rng.gauss(0, _CHEER_MS))
            said.append((event.at * minute_ms + delay, line))
    for at, text in sorted(said):
        message = {"user": rng.choice(_PEOPLE), "text": text}
        yield Record(at, "chat:lobby", orjson.dumps(message))


def _reactions(match: Match, event: Event, rng: random.Random) -> Iterator[str]:
    home, away = match.teams
    score = f"{event.score[0]}:{event.score[1]}"
    if event.goal is None:
        for line in rng.sample(_BY_KIND.get(event.kind, ()), k=min(3, len(_BY_KIND.get(event.kind, ())))):
            yield line.format(home=home, away=away, score=score)
        return
    lines = _GOAL + _PENALTY * event.goal.penalty
    surname = event.goal.player.split()[-1]
    for line in rng.choices(lines, k=_CHEERS):
        yield line.format(player=surname, team=match.teams[event.goal.side], score=score, minute=event.minute)
