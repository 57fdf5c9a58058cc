"""Simulated quotes: a random walk for each of a handful of symbols."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping

import orjson

from service.feeds.record import Record

#: Symbols and what they start at, in dollars. The prices are invented.
SYMBOLS: Mapping[str, float] = {
    "AAPL": 189.30,
    "MSFT": 415.10,
    "NVDA": 131.20,
    "AMZN": 201.80,
    "GOOG": 172.40,
    "TSLA": 248.60,
}

#: Quotes of one symbol in a second, on average.
RATE = 3.0

#: Relative size of one step of the walk; with RATE a lively but believable chart.
_STEP = 0.0006

#: How strongly a price is drawn back to its start, so that a demo of days stays near it.
_PULL = 0.002


def simulate(
    rng: random.Random, symbols: Mapping[str, float] = SYMBOLS, rate: float = RATE
) -> Iterator[Record]:
    """Endless quotes of all symbols, in time order.

    Args:
        rng: where chance comes from; the same seed gives the same quotes.
        symbols: names and first prices.
        rate: quotes of one symbol in a second, on average.
    """
    return heapq.merge(
        *(_walk(random.Random(rng.random()), symbol, price, rate) for symbol, price in symbols.items()),
        key=lambda record: record.at_ms,
    )


def _walk(rng: random.Random, symbol: str, start: float, rate: float) -> Iterator[Record]:
    at = 0.0
    price = start
    drift = 0.0
    while True:
        at += rng.expovariate(rate) * 1000
        drift = 0.92 * drift + rng.gauss(0, _STEP * 0.25)
        price *= 1 + rng.gauss(drift, _STEP) - _PULL * math.log(price / start)
        spread = max(0.01, price * abs(rng.gauss(0.00008, 0.00004)))
        quote = {
            "symbol": symbol,
            "price": round(price, 2),
            "bid": round(price - spread / 2, 2),
            "ask": round(price + spread / 2 + 0.005, 2),
            "bid_size": _size(rng),
            "ask_size": _size(rng),
        }
        yield Record(at, f"quotes:{symbol}", orjson.dumps(quote))


def _size(rng: random.Random) -> int:
    return max(1, round(rng.lognormvariate(1.5, 0.8))) * 100
