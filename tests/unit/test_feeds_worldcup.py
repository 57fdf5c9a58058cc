"""feeds.worldcup: match files into match events."""

import json
from typing import Any

import orjson
import pytest

from service.feeds import worldcup
from service.feeds.show import WORLDCUP


def match(**changes: Any) -> worldcup.Match:
    """One match, parsed from a file that holds nothing else."""
    raw = {
        "round": "Final",
        "date": "2026-07-19",
        "team1": "Ávila",
        "team2": "Beta United",
        "score": {"ft": [1, 1]},
        "goals1": [{"name": "One", "minute": 45, "offset": 2}],
        "goals2": [{"name": "Two", "minute": "45+1", "penalty": True}],
    }
    (parsed,) = worldcup.parse(json.dumps({"matches": [raw | changes]}))
    return parsed


def test_minutes_are_numbers_or_strings() -> None:
    """Stoppage time comes as `offset` or as "45+1"; goals are put in order."""
    assert [(goal.player, goal.minute, goal.stoppage, goal.side) for goal in match().goals] == [
        ("Two", 45, 1, 1),
        ("One", 45, 2, 0),
    ]


def test_a_minute_beyond_the_match_is_stoppage_time() -> None:
    """Minute 92 of a match without extra time is 90+2."""
    (goal,) = match(goals1=[{"name": "Late", "minute": "92"}], goals2=[]).goals
    assert (goal.minute, goal.stoppage) == (90, 2)


def test_goals_may_be_missing() -> None:
    """A match without goals may lack the keys."""
    raw = {"date": "2026-01-01", "team1": "A", "team2": "B", "score": {"ft": [0, 0]}}
    (parsed,) = worldcup.parse(json.dumps({"matches": [raw]}))
    assert parsed.goals == ()


def test_the_game_is_a_channel_name() -> None:
    """A game's name is plain ASCII without blanks."""
    assert match().game == "2026-07-19-avila-beta-united"


def test_events_of_a_match() -> None:
    """Kick-off, goals, breaks and full time, each with the score as it stands."""
    assert [(event.at, event.kind, event.minute, event.score) for event in worldcup.events(match())] == [
        (0, "kick-off", "0", (0, 0)),
        (46, "goal", "45+1", (0, 1)),
        (47, "goal", "45+2", (1, 1)),
        (47, "half-time", "45", (1, 1)),
        (62, "second-half", "45", (1, 1)),
        (107, "full-time", "90", (1, 1)),
    ]


def test_extra_time_and_penalties() -> None:
    """Extra time has two periods; penalties come before the end."""
    long = match(score={"p": [4, 2], "et": [1, 1], "ft": [1, 1]})
    kinds = [event.kind for event in worldcup.events(long)]
    assert kinds[-6:] == ["break", "extra-time", "break", "extra-time-2", "penalties", "full-time"]
    assert worldcup.payload(long, worldcup.events(long)[-1])["penalties"] == (4, 2)


def test_payload_of_a_goal() -> None:
    """A goal tells who, for whom and how."""
    event = worldcup.events(match())[1]
    body = json.loads(orjson.dumps(worldcup.payload(match(), event)))
    assert (body["player"], body["team"], body["side"], body["penalty"]) == ("Two", "Beta United", 1, True)
    assert body["score"] == [0, 1]
    assert "own_goal" not in body


def test_the_shipped_file() -> None:
    """Every match ends with the score that the file gives it, in events whose times never go back."""
    text = WORLDCUP.read_text(encoding="utf-8")
    raw = {
        (m["date"], m["team1"]): m["score"].get("et") or m["score"]["ft"] for m in json.loads(text)["matches"]
    }
    matches = worldcup.parse(text)
    assert len(matches) == 64
    for each in matches:
        events = worldcup.events(each)
        assert list(events[-1].score) == raw[each.date, each.teams[0]], each.game
        assert [event.at for event in events] == sorted(event.at for event in events)
    records = list(worldcup.replay(matches))
    assert [record.at_ms for record in records] == sorted(record.at_ms for record in records)
    assert sum(json.loads(record.data)["event"] == "goal" for record in records) == 172


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"score": None}, "match 1: TypeError"),
        (
            {"goals1": [{"name": "X", "minute": "soon"}]},
            'match 1: ValueError: a minute such as 45 or "45\\+2"',
        ),
        ({"goals1": [{"minute": 3}]}, "match 1: KeyError: 'name'"),
    ],
)
def test_a_broken_match_is_named(changes: dict[str, Any], problem: str) -> None:
    """The text names the match and what is wrong with it."""
    with pytest.raises(ValueError, match=problem):
        match(**changes)


def test_the_template_knows_only_the_game() -> None:
    """Another field cannot be filled."""
    with pytest.raises(ValueError, match=r"only \{game\} can be filled"):
        list(worldcup.replay([match()], "scores:{team}"))
