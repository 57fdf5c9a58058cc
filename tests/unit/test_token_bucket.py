"""session.token_bucket: a burst at once, then no more than the rate."""

from service.session.token_bucket import TokenBucket


def _taken(bucket: TokenBucket, count: int, now: float) -> int:
    return sum(bucket.take(10, 5, now) for _ in range(count))


def test_a_burst_and_no_more() -> None:
    """The bucket begins full."""
    assert _taken(TokenBucket(5, 100.0), 8, 100.0) == 5


def test_the_rate_fills_it_again() -> None:
    """Ten a second: three after 0.3 s."""
    bucket = TokenBucket(5, 100.0)
    _taken(bucket, 5, 100.0)
    assert _taken(bucket, 8, 100.35) == 3


def test_it_never_holds_more_than_the_burst() -> None:
    """An hour of silence is no licence to flood."""
    assert _taken(TokenBucket(5, 100.0), 50, 3700.0) == 5


def test_asking_often_costs_nothing() -> None:
    """Fractions of a token are kept, and a refusal takes none."""
    bucket = TokenBucket(5, 100.0)
    _taken(bucket, 5, 100.0)
    times = [100.0 + i / 64 for i in range(1, 129)]
    assert sum(bucket.take(10, 5, now) for now in times) == 20
