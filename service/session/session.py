"""One client: the protocol's state machine.

A session has no task of its own. Commands that need nothing from Redis are answered in the
callback that read them; for the others a task runs while they wait (lanes.py).
"""

from __future__ import annotations

import logging
import math
import random
import time
import uuid
from collections.abc import Coroutine

import orjson

from service.errors import (
    BAD_REQUEST,
    EXPIRED,
    INSUFFICIENT,
    INSUFFICIENT_STATE,
    NO_PONG,
    SERVER_ERROR,
    SLOW,
    STALE,
    SUBSCRIPTION_ENDED,
    SUBSCRIPTION_EXPIRED,
    TOO_MANY_ERRORS,
    CommandFailed,
    Disconnect,
    ReplyError,
    SessionEnded,
    Unavailable,
    Unsubscribed,
    internal,
    not_available,
    unauthorized,
)
from service.hub.hub import Channel
from service.hub.outbox import Outbox
from service.identity.identity import ANONYMOUS
from service.session import commands
from service.session.caller import Result
from service.session.context import GONE, Context, Detail, Transport
from service.session.lanes import CONNECT_LANE, Lanes, lane_of
from service.session.protocol import Command, ProtocolViolation
from service.session.state import State
from service.session.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

#: Codes of errors that are answers to asking for too much.
_LIMITS = frozenset((106, 111))


class Session:
    """One client's session over one transport."""

    __slots__ = (
        "_act_at",
        "_bucket",
        "_context",
        "_expires",
        "_opened",
        "_refusals",
        "_transport",
        "close_code",
        "details",
        "due",
        "id",
        "identity",
        "joining",
        "lanes",
        "outbox",
        "secret",
        "state",
        "subscriptions",
    )

    def __init__(self, context: Context, transport: Transport) -> None:
        now = time.monotonic()
        self._context = context
        self._transport = transport
        self._opened = now
        self._bucket = TokenBucket(context.settings.limits.commands_burst, now)
        self.lanes = Lanes()
        # Allows for some commands that ask for too much.
        self._refusals: TokenBucket | None = None
        # When to ping or to give up, by `time.monotonic`; when something expires, in Unix seconds.
        self._act_at = now
        self._expires = math.inf
        self.identity = ANONYMOUS
        #: The client id, unique among all nodes.
        self.id = str(uuid.uuid4())
        #: What the client sends commands under that come by other connections; "": none do.
        self.secret = transport.secret
        self.subscriptions: dict[str, Channel] = {}
        #: By channel, where a subscription has something particular.
        self.details: dict[str, Detail] | None = None
        #: Subscriptions under way.
        self.joining = 0
        self.state = State.NEW
        self.close_code = 0  # while open
        self.due = 0
        write, limit = transport.write, context.settings.limits.outbox_bytes
        self.outbox = Outbox(self, write, transport.format, context.flusher, limit, transport.transmit)
        context.wheel.set(self, context.settings.client.connect_seconds)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for answers any more."""
        return self.state >= State.CLOSING

    # What comes in

    def receive(self, message: bytes) -> None:
        """A message of the client: commands, as the codec has them in it."""
        if self.state is State.PINGED:
            self.state = State.CONNECTED
            self._act_in(self._context.settings.client.ping_seconds)
        codec, counts = self._transport.codec, self._context.metrics.commands
        try:
            for item in codec.split(message):
                # An empty one costs as much: else a flood of them would cost nothing.
                if self.state >= State.CLOSING or not self.spend():
                    return
                command = codec.decode(item)
                if command is not None:  # else a pong
                    counts[command.method].inc()
                    self.dispatch(command)
        except ProtocolViolation as exc:
            logger.debug("session %s: %s", self.id, exc)
            self.close(BAD_REQUEST)

    def spend(self) -> bool:
        """Account for one thing the client asks for; False once it has been closed for asking too much."""
        limits = self._context.settings.limits
        if self._bucket.take(limits.commands_per_second, limits.commands_burst, time.monotonic()):
            return True
        self.close(TOO_MANY_ERRORS)
        return False

    def dispatch(self, command: Command) -> None:
        """Run a command, or have it wait for those before it."""
        is_connect = command.method == "connect"
        if self.state is State.CONNECTING and not is_connect:
            self.lanes.wait(self, CONNECT_LANE, command)
            return
        if is_connect is not (self.state in (State.NEW, State.REFUSED)):
            if self.state is State.REFUSED:
                self.refuse(command, unauthorized())
            else:
                self.close(BAD_REQUEST)
            return
        lane = lane_of(command)
        if self.lanes.busy(lane):
            self.lanes.wait(self, lane, command)
            return
        work = self.begin(command)
        if work is not None:
            if command.method == "connect":
                self.state = State.CONNECTING
            self._context.tasks.start(self.lanes.run(self, lane, command, work))

    def begin(self, command: Command) -> Coroutine[None, None, Result] | None:
        """Answer at once, or return what is still to be done."""
        try:
            if command.error is not None:
                raise command.error
            result = commands.HANDLERS[command.method](self, self._context, command.request)
            if isinstance(result, Coroutine):
                return result
            self.reply(command, result)
        except Exception as exc:
            self.refuse(command, exc)
        return None

    def in_flight(self, count: int, before: int) -> None:
        """So many commands wait now, and did: too many, and reading pauses."""
        limit = self._context.settings.limits.commands_in_flight
        if self.state >= State.CLOSING:
            return
        if before < limit <= count:
            self._transport.pause_reading()
        elif before >= limit > count:
            self._transport.resume_reading()

    # What goes out

    def send(self, message: bytes) -> None:
        """Queue a message of the protocol."""
        self.outbox.send(self._transport.frame(message))

    def push(self, channel: str, kind: str, body: bytes) -> None:
        """Queue a push of a channel; `body` is a JSON object."""
        self.send(self._transport.codec.encode_push(channel, kind, body))

    def reply(self, command: Command, result: Result) -> None:
        """Answer a command."""
        if self.state >= State.CLOSING or not command.answered:
            return
        self.send(self._transport.codec.encode_reply(command, result))
        if command.method == "connect":
            self._connected()

    def refuse(self, command: Command, exc: Exception) -> None:
        """Answer a command that failed; some failures end the session."""
        if isinstance(exc, SessionEnded):
            self.close(exc.disconnect)
            return
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
        if self.state >= State.CLOSING:
            return
        if command.method == "connect" and command.error is None:  # else it was none
            self.state = State.REFUSED
        if command.answered:
            self.send(self._transport.codec.encode_error(command, error))
        if error.code in _LIMITS and not self._spend_refusal():
            self.close(TOO_MANY_ERRORS)

    def _spend_refusal(self) -> bool:
        limits, now = self._context.settings.limits, time.monotonic()
        self._refusals = self._refusals or TokenBucket(limits.refusals_burst, now)
        return self._refusals.take(limits.refusals_per_second, limits.refusals_burst, now)

    def _connected(self) -> None:
        self.state = State.CONNECTED
        self._context.users.add(self)
        self._context.admission.answered()
        self._context.metrics.handshake.observe(time.monotonic() - self._opened)
        # Spread, so that those who came at once are not pinged at once.
        ping = self._context.settings.client.ping_seconds
        self._act_in(random.uniform(ping / 2, ping))

    # Subscriptions

    def leave(self, name: str, *, at_once: bool = True) -> None:
        """Subscriptions end here, whoever wanted it; fine if there is none.

        Args:
            at_once: others see the client leave now, not after a while in which it may be back.
        """
        channel = self.subscriptions.pop(name, None)
        if channel is not None:
            self._context.hub.remove(channel, self.outbox)
        detail = None if self.details is None else self.details.pop(name, None)
        if detail is None:
            return
        if detail.live is not None:
            self._context.hub.remove(detail.live, self.outbox)
        if detail.present:
            self._context.presence.leave(name, self.id, at_once=at_once)

    def unsubscribed(self, channel: str) -> None:
        """The hub's word that continuity broke: the client resubscribes, with its position."""
        if self.details is not None and channel in self.details and self.details[channel].server_side:
            # Of a server-side subscription SDKs forget the position when it is taken away.
            self.close(INSUFFICIENT_STATE)
        else:
            self.take_away(channel, INSUFFICIENT)

    def take_away(self, channel: str, why: Unsubscribed) -> None:
        """End a subscription by the server's will."""
        if channel in self.subscriptions:
            self.leave(channel)
            self.push(channel, "unsubscribe", orjson.dumps({"code": why.code, "reason": why.reason}))

    # Time

    def on_deadline(self) -> None:
        """The wheel's turn: a ping is due, or something has not come in time, or has expired."""
        match self.state:
            case State.NEW | State.CONNECTING | State.REFUSED:
                self.close(STALE)
            case State.CONNECTED | State.PINGED:
                if self._expires <= time.time():
                    self._expire()
                if self.state >= State.CLOSING:
                    return
                if time.monotonic() < self._act_at:
                    self._set_wheel()
                else:
                    self._ping_or_give_up()
            case State.CLOSING:
                self._transport.abort()

    def _ping_or_give_up(self) -> None:
        if self.outbox.blocked:
            self.state = State.CONNECTED  # a ping has not reached the client; nor can its pong reach us
            self._wait_blocked()
        elif self.state is State.PINGED:
            self.close(NO_PONG)
        else:
            self.state = State.PINGED
            self.send(self._transport.codec.ping)
            self._act_in(self._context.settings.client.pong_seconds)

    def _act_in(self, seconds: float) -> None:
        self._act_at = time.monotonic() + seconds
        self._set_wheel()

    def _set_wheel(self) -> None:
        seconds = min(self._act_at - time.monotonic(), self._expires - time.time())
        self._context.wheel.set(self, max(0.0, seconds))

    def expiries_changed(self) -> None:
        """The identity was replaced, or a detail: see what expires first."""
        leeway = self._context.settings.tokens.leeway_seconds
        instants = [self.identity.expires_at]
        if self.details is not None:
            instants += [detail.expires_at for detail in self.details.values()]
        self._expires = min((at + leeway for at in instants if at is not None), default=math.inf)
        if self.state in (State.CONNECTED, State.PINGED):
            self._set_wheel()

    def _expire(self) -> None:
        now = time.time() - self._context.settings.tokens.leeway_seconds
        if self.identity.expires_at is not None and self.identity.expires_at <= now:
            self.close(EXPIRED)
            return
        for name, detail in list((self.details or {}).items()):
            if detail.expires_at is None or detail.expires_at > now:
                continue
            if detail.server_side:
                self.close(SUBSCRIPTION_ENDED)
                return
            self.take_away(name, SUBSCRIPTION_EXPIRED)
        self.expiries_changed()

    def _wait_blocked(self) -> None:
        """A client that reads nothing cannot answer pings; it is given up by age."""
        if time.monotonic() - self.outbox.blocked_at >= self._context.settings.limits.blocked_seconds:
            self._context.metrics.slow_disconnects.labels("age").inc()
            self.close(SLOW)
        else:
            self._act_in(1.0)

    # The end

    def overflow(self, reason: str) -> None:
        """The outbox gave up."""
        self._context.metrics.slow_disconnects.labels(reason).inc()
        self.close(SLOW)

    def finish(self, data: bytes) -> None:
        """The rest of what the closed outbox has written in part: no frame is cut."""
        self._transport.finish(data)

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
        self._transport = GONE  # they refer to each other: freed now, and not by the garbage collector
        metrics = self._context.metrics
        metrics.connection_duration.observe(time.monotonic() - self._opened)
        metrics.connections_closed.labels(str(self.close_code or "client")).inc()

    def _leave(self) -> None:
        for name in list(self.subscriptions):
            self.leave(name, at_once=False)
        self._context.users.remove(self)
        if self._context.settings.limits.connections_per_user:
            counted = self._context.keys.connections(self.identity.user)
            self._context.presence.leave(counted, self.id, at_once=True)
