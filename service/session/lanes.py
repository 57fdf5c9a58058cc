"""The order of commands: those on one channel run one after the other, the others do not wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Protocol

from service.errors import ReplyError
from service.session.caller import Result
from service.session.protocol import Command

Work = Coroutine[None, None, Result]

#: The lane of `connect`, in which everything else waits meanwhile.
CONNECT_LANE = "connect"


class Session(Protocol):
    """Whose commands these are."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for answers any more."""

    def begin(self, command: Command) -> Work | None:
        """Answer at once, or return what is still to be done."""

    def dispatch(self, command: Command) -> None:
        """Run a command, or have it wait for those before it."""

    def reply(self, command: Command, result: Result) -> None:
        """Answer a command."""

    def refuse(self, command: Command, exc: Exception) -> None:
        """Answer a command that failed."""

    def in_flight(self, count: int, before: int) -> None:
        """So many commands wait now, and did."""


def lane_of(command: Command) -> str:
    """What a command must wait for: others on its channel. All that name none share a lane."""
    if command.method == "connect":
        return CONNECT_LANE
    try:
        request = command.request
        if command.method == "rpc":
            request = request.nested("data") or request
        return "channel " + request.text("channel")
    except ReplyError:  # it will be answered so
        return ""


class Lanes:
    """Commands under way, and those that wait behind them; all of one session."""

    __slots__ = ("_count", "_waiting")

    def __init__(self) -> None:
        # By lane, while a command of it is under way. Most sessions have none, most of the time.
        self._waiting: dict[str, deque[Command]] | None = None
        self._count = 0

    def busy(self, lane: str) -> bool:
        """Whether a command of this lane is under way."""
        return self._waiting is not None and lane in self._waiting

    def wait(self, session: Session, lane: str, command: Command) -> None:
        """Have a command wait behind those of a busy lane."""
        assert self._waiting is not None
        self._waiting[lane].append(command)
        self._counted(session, +1)

    def run(self, session: Session, lane: str, command: Command, work: Work) -> Coroutine[None, None, None]:
        """What remains to be done of a command, and of those that come to wait behind it: a task's work."""
        if self._waiting is None:
            self._waiting = {}
        self._waiting[lane] = deque()
        self._counted(session, +1)
        return self._run(session, lane, command, work)

    async def _run(self, session: Session, lane: str, command: Command, work: Work) -> None:
        assert self._waiting is not None
        waiting = self._waiting[lane]
        following: Work | None = work
        while following is not None:
            try:
                session.reply(command, await following)
            except Exception as exc:
                session.refuse(command, exc)
            self._counted(session, -1)
            following = None
            while waiting and following is None and lane != CONNECT_LANE:
                command = waiting.popleft()
                following = None if session.gone else session.begin(command)
                if following is None:
                    self._counted(session, -1)
        del self._waiting[lane]
        for command in waiting:  # behind `connect`: each has a lane of its own
            self._counted(session, -1)
            if not session.gone:
                session.dispatch(command)

    def _counted(self, session: Session, change: int) -> None:
        before, self._count = self._count, self._count + change
        session.in_flight(self._count, before)
