"""feeds.show, quotes and chat: what the demo publishes."""

import itertools
import json
import random

from service import config
from service.feeds import quotes, show, worldcup
from service.tools.demo import SETTINGS


def test_quotes_are_plausible() -> None:
    """Bid below ask, the price near where it began, times in order, a few a second."""
    records = list(itertools.islice(quotes.simulate(random.Random(1)), 20_000))
    assert [record.at_ms for record in records] == sorted(record.at_ms for record in records)
    seconds = records[-1].at_ms / 1000
    assert 0.9 < len(records) / seconds / (quotes.RATE * len(quotes.SYMBOLS)) < 1.1
    for record in records:
        quote = json.loads(record.data)
        assert record.channel == f"quotes:{quote['symbol']}"
        assert 0 < quote["bid"] < quote["ask"]
        assert 0.7 < quote["price"] / quotes.SYMBOLS[quote["symbol"]] < 1.4
        assert quote["bid_size"] > 0
        assert quote["ask_size"] > 0


def test_the_same_seed_gives_the_same_show() -> None:
    """Chance comes from the generator that is handed in, and from nowhere else."""
    one, other = (list(itertools.islice(show.show(random.Random(7)), 3000)) for _ in range(2))
    assert one == other


def test_the_show_is_in_order_and_within_the_demos_namespaces() -> None:
    """Times never go back, and the demo's node delivers each channel."""
    settings = config.load(SETTINGS)
    last = 0.0
    for record in itertools.islice(show.show(random.Random(2)), 20_000):
        assert record.at_ms >= last
        last = record.at_ms
        assert settings.namespace_of(record.channel) is not None
        json.loads(record.data)


def test_the_clock_of_a_match() -> None:
    """The minutes of a match on scores:live never go back, reach its end, and agree with its events."""
    matches = worldcup.parse(show.WORLDCUP.read_text(encoding="utf-8"))
    final = matches[-1]
    live = []
    for record in show.tournament(matches, random.Random(3)):
        body = json.loads(record.data)
        if record.channel == "scores:live":
            assert body["game"] == final.game
            live.append(body)
            if body["event"] == "full-time":
                break
    minutes = [int(body["minute"].partition("+")[0]) for body in live]
    assert minutes == sorted(minutes)
    assert set(minutes) == set(range(121))
    assert [body["player"] for body in live if body["event"] == "goal"] == [g.player for g in final.goals]
    assert live[-1]["score"] == [3, 3]
    assert live[-1]["penalties"] == [4, 2]


def test_after_the_last_match_comes_the_first() -> None:
    """The tournament begins with the final, then plays all from the start, for ever."""
    matches = worldcup.parse(show.WORLDCUP.read_text(encoding="utf-8"))[-3:]
    played = []
    for record in show.tournament(matches, random.Random(4)):
        body = json.loads(record.data)
        if record.channel == "scores:live" and body["event"] == "kick-off":
            played.append(body["game"])
            if len(played) == 5:
                break
    order = [match.game for match in matches]
    assert played == [order[2], order[0], order[1], order[2], order[0]]
