"""One client: the protocol's state machine.

A session has no task of its own. Commands that need nothing from Redis are answered in the
callback that read them; for the others a task runs while they wait. Commands on one channel run in
order (a lane each), commands on different channels do not wait for each other.
"""

from __future__ import annotations

import enum
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Coroutine
from typing import Any

from service import __version__
from service.errors import (
    BAD_REQUEST,
    INSUFFICIENT,
    NO_PONG,
    SERVER_ERROR,
    SLOW,
    STALE,
    TOO_MANY_ERRORS,
    CommandFailed,
    Disconnect,
    ReplyError,
    Unavailable,
    internal,
    not_available,
)
from service.hub.hub import Channel
from service.hub.outbox import Outbox
from service.session import commands, protocol
from service.session.context import Context, Transport
from service.session.limits import TokenBucket
from service.session.protocol import Command, ProtocolViolation

logger = logging.getLogger(__name__)

Result = dict[str, Any]


class State(enum.IntEnum):
    """Where a session stands."""

    #: Waiting for `connect`.
    NEW = 0
    CONNECTED = 1
    #: A ping was sent, its pong has not come.
    PINGED = 2
    #: A close was sent; whatever comes is passed over.
    CLOSING = 3
    CLOSED = 4


class Session:
    """One client's session over one transport."""

    __slots__ = (
        "_bucket",
        "_context",
        "_in_flight",
        "_lanes",
        "_opened",
        "_transport",
        "close_code",
        "due",
        "id",
        "joining",
        "outbox",
        "state",
        "subscriptions",
    )

    def __init__(self, context: Context, transport: Transport) -> None:
        now = time.monotonic()
        self._context = context
        self._transport = transport
        self._opened = now
        self._bucket = TokenBucket(context.settings.limits.commands_burst, now)
        # Commands that wait behind another one of their channel.
        self._lanes: dict[str, deque[Command]] | None = None
        self._in_flight = 0
        #: The client id, unique among all nodes.
        self.id = str(uuid.uuid4())
        self.subscriptions: dict[str, Channel] = {}
        #: Subscriptions under way.
        self.joining = 0
        self.state = State.NEW
        #: The code the session was closed with, 0 while open.
        self.close_code = 0
        self.due = 0
        limit = context.settings.limits.outbox_bytes
        self.outbox = Outbox(
            self, transport.write, transport.format, context.flusher, limit, transport.transmit
        )
        context.wheel.set(self, context.settings.client.connect_seconds)

    # What comes in

    def receive(self, message: bytes) -> None:
        """A message of the client: commands, one a line."""
        if self.state is State.PINGED:
            self.state = State.CONNECTED
            self._context.wheel.set(self, self._context.settings.client.ping_seconds)
        for line in message.split(b"\n"):
            if self.state >= State.CLOSING:
                return
            if line and not line.isspace():
                self._receive_line(line)

    def spend(self) -> bool:
        """Account for one thing the client asks for; False once it has been closed for asking too much."""
        limits = self._context.settings.limits
        if self._bucket.take(limits.commands_per_second, limits.commands_burst, time.monotonic()):
            return True
        self.close(TOO_MANY_ERRORS)
        return False

    def _receive_line(self, line: bytes) -> None:
        if not self.spend():
            return
        try:
            command = protocol.decode(line)
        except ProtocolViolation as exc:
            logger.debug("session %s: %s", self.id, exc)
            self.close(BAD_REQUEST)
            return
        if command is None:  # a pong
            return
        if (command.method == "connect") is not (self.state is State.NEW):
            self.close(BAD_REQUEST)
            return
        self._context.metrics.commands.labels(command.method).inc()
        self._dispatch(command)

    def _dispatch(self, command: Command) -> None:
        """Run a command, or have it wait for those before it on its channel."""
        lane = self._lane_of(command)
        if lane is not None and self._lanes is not None and lane in self._lanes:
            self._lanes[lane].append(command)
            self._count_in_flight(+1)
            return
        work = self._start(command)
        if work is not None:
            if self._lanes is None:
                self._lanes = {}
            assert lane is not None  # whatever waits for Redis names a channel
            self._lanes[lane] = deque()
            self._count_in_flight(+1)
            self._context.tasks.start(self._run_lane(lane, command, work))

    @staticmethod
    def _lane_of(command: Command) -> str | None:
        if command.error is not None:
            return None
        try:
            return command.request.text("channel") or None
        except ReplyError:
            return None

    def _start(self, command: Command) -> Coroutine[None, None, Result] | None:
        """Answer at once, or return what is still to be done."""
        try:
            if command.error is not None:
                raise command.error
            handler = commands.HANDLERS.get(command.method)
            if handler is None:
                raise not_available()
            result = handler(self, self._context, command.request)
        except Exception as exc:
            self._refuse(command, exc)
            return None
        if isinstance(result, Coroutine):
            return result
        self._reply(command, result)
        return None

    async def _run_lane(self, lane: str, command: Command, work: Coroutine[None, None, Result]) -> None:
        assert self._lanes is not None
        waiting = self._lanes[lane]
        following: Coroutine[None, None, Result] | None = work
        while following is not None:
            try:
                result = await following
            except Exception as exc:
                self._refuse(command, exc)
            else:
                self._reply(command, result)
            self._count_in_flight(-1)
            following = None
            while waiting and following is None:
                command = waiting.popleft()
                following = self._start(command) if self.state < State.CLOSING else None
                if following is None:
                    self._count_in_flight(-1)
        del self._lanes[lane]

    def _count_in_flight(self, change: int) -> None:
        limit = self._context.settings.limits.commands_in_flight
        before, self._in_flight = self._in_flight, self._in_flight + change
        if self.state >= State.CLOSING:
            return
        if before < limit <= self._in_flight:
            self._transport.pause_reading()
        elif before >= limit > self._in_flight:
            self._transport.resume_reading()

    # What goes out

    def send(self, message: bytes) -> None:
        """Queue a message of the protocol."""
        self.outbox.send(self._transport.frame(message))

    def _reply(self, command: Command, result: Result) -> None:
        if self.state >= State.CLOSING or not command.answered:
            return
        self.send(protocol.encode_reply(command, result))
        if command.method == "connect":
            self._connected()

    def _refuse(self, command: Command, exc: Exception) -> None:
        if isinstance(exc, ReplyError):
            error = exc
        elif isinstance(exc, CommandFailed) and str(exc).startswith("WRONGTYPE"):
            error = not_available("the channel's key holds no stream")
        elif isinstance(exc, Unavailable | CommandFailed):
            error = internal()
        else:
            logger.exception("a %s command failed", command.method, exc_info=exc)
            self.close(SERVER_ERROR)
            return
        self._context.metrics.command_errors.labels(str(error.code)).inc()
        if command.method == "publish":
            self._context.metrics.publish_rejected.labels(str(error.code)).inc()
        if self.state < State.CLOSING and command.answered:
            self.send(protocol.encode_error(command, error))

    def info(self) -> bytes:
        """Who the client is, as presence and its publications show it: a JSON object."""
        return b'{"client":"%b"}' % self.id.encode()

    def connect_result(self) -> Result:
        """What the client is told when it connects."""
        client = self._context.settings.client
        return {
            "client": self.id,
            "version": __version__,
            "ping": client.ping_seconds,
            "pong": True,
            "node": self._context.node,
        }

    def _connected(self) -> None:
        self.state = State.CONNECTED
        self._context.metrics.handshake.observe(time.monotonic() - self._opened)
        # Spread, so that those who came at once are not pinged at once.
        ping = self._context.settings.client.ping_seconds
        self._context.wheel.set(self, random.uniform(ping / 2, ping))

    def unsubscribed(self, channel: str) -> None:
        """The hub has taken a subscription away because continuity broke: the client resubscribes."""
        self.subscriptions.pop(channel, None)
        self.send(protocol.encode_unsubscribe(channel, *INSUFFICIENT))

    # Time

    def on_deadline(self) -> None:
        """The wheel's turn: a ping is due, or something has not come in time."""
        client = self._context.settings.client
        match self.state:
            case State.NEW:
                self.close(STALE)
            case State.CONNECTED if self.outbox.blocked:
                self._wait_blocked()
            case State.CONNECTED:
                self.state = State.PINGED
                self.send(b"{}")
                self._context.wheel.set(self, client.pong_seconds)
            case State.PINGED if self.outbox.blocked:
                self.state = State.CONNECTED  # the ping has not reached the client; nor can its pong reach us
                self._wait_blocked()
            case State.PINGED:
                self.close(NO_PONG)
            case State.CLOSING:
                self._transport.abort()

    def _wait_blocked(self) -> None:
        """A client that reads nothing cannot answer pings; it is given up by age."""
        if time.monotonic() - self.outbox.blocked_at >= self._context.settings.limits.blocked_seconds:
            self._context.metrics.slow_disconnects.labels("age").inc()
            self.close(SLOW)
        else:
            self._context.wheel.set(self, 1.0)

    # The end

    def overflow(self, reason: str) -> None:
        """The outbox gave up."""
        self._context.metrics.slow_disconnects.labels(reason).inc()
        self.close(SLOW)

    def close(self, disconnect: Disconnect) -> None:
        """End the session: what is pending goes first, then the close; then the client has some seconds."""
        if self.state >= State.CLOSING:
            return
        self.close_code = disconnect.code
        if not self.outbox.blocked:
            self.outbox.flush()
        self.end()
        self._transport.close(disconnect)

    def end(self) -> None:
        """Stop; the transport is closing, and is cut off if that takes too long."""
        if self.state >= State.CLOSING:
            return
        self._leave()
        self.state = State.CLOSING
        self.outbox.close()
        self._context.wheel.set(self, self._context.settings.client.close_seconds)

    def closed(self) -> None:
        """The connection is gone."""
        if self.state is State.CLOSED:
            return
        self._leave()
        self.state = State.CLOSED
        self.outbox.close()
        self._context.wheel.clear(self)
        metrics = self._context.metrics
        metrics.connection_duration.observe(time.monotonic() - self._opened)
        metrics.connections_closed.labels(str(self.close_code or "client")).inc()

    def _leave(self) -> None:
        for channel in self.subscriptions.values():
            self._context.hub.remove(channel, self.outbox)
        self.subscriptions.clear()
