"""errors: the codes are those of the protocol, and a code's range decides whether clients come back."""

import pytest

from service import errors
from service.errors import Disconnect, ReplyError, StreamgateError

_DISCONNECTS = {value for value in vars(errors).values() if isinstance(value, Disconnect)}


@pytest.mark.parametrize(
    ("error", "code", "temporary"),
    [
        (errors.internal(), 100, True),
        (errors.unknown_channel(), 102, False),
        (errors.permission_denied(), 103, False),
        (errors.method_not_found(), 104, False),
        (errors.already_subscribed(), 105, False),
        (errors.limit_exceeded(), 106, False),
        (errors.bad_request(), 107, False),
        (errors.not_available(), 108, False),
        (errors.unrecoverable_position(), 112, False),
    ],
)
def test_reply_errors(error: ReplyError, code: int, *, temporary: bool) -> None:
    """Each refusal has its code; only what may go away by itself is temporary."""
    assert (error.code, error.temporary) == (code, temporary)
    assert error.message


def test_what_is_wrong_can_be_named() -> None:
    """bad_request, limit_exceeded and not_available tell the client what they are about."""
    assert errors.bad_request("channel is required").message == "channel is required"
    assert errors.limit_exceeded("too many").message == "too many"
    assert errors.not_available("no stream").message == "no stream"


def test_a_rate_says_when_to_come_back() -> None:
    """In the text as well, rounded up: the JavaScript SDK passes on nothing but code and text."""
    error = errors.too_many_requests(1.2, "slow mode")
    assert error.body() == {
        "code": 111,
        "message": "slow mode: wait 2 s",
        "temporary": True,
        "retry_after": 1.2,
    }


def test_disconnects_are_told_apart() -> None:
    """No two disconnects share a code, and each reason fits a close frame."""
    assert len({d.code for d in _DISCONNECTS}) == len(_DISCONNECTS) > 0
    assert all(0 < len(d.reason.encode()) < 124 for d in _DISCONNECTS)


@pytest.mark.parametrize(
    ("disconnect", "code"),
    [
        (errors.SHUTDOWN, 3001),
        (errors.SERVER_ERROR, 3004),
        (errors.SLOW, 3008),
        (errors.NO_PONG, 3012),
        (errors.BAD_REQUEST, 3501),
        (errors.STALE, 3502),
        (errors.INAPPROPRIATE_PROTOCOL, 3506),
        (errors.TOO_MANY_ERRORS, 3509),
    ],
)
def test_disconnect_codes(disconnect: Disconnect, code: int) -> None:
    """The codes of the protocol's table."""
    assert disconnect.code == code


def test_after_insufficient_state_clients_resubscribe() -> None:
    """An unsubscribe push below 2500 would be for good."""
    assert errors.INSUFFICIENT.code == 2500


def test_all_errors_have_one_root() -> None:
    """Whatever is raised on purpose can be caught as StreamgateError."""
    for kind in (
        errors.ConfigError,
        errors.Unavailable,
        errors.CommandFailed,
        errors.UndeliverableEntry,
        ReplyError,
    ):
        assert issubclass(kind, StreamgateError)
