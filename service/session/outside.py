"""What the application does to sessions and channels of this node from outside (session/orders.py)."""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import re
import socket
import time
from typing import Any, Protocol, cast

import orjson

from service import __version__
from service.errors import ReplyError, StreamgateError
from service.hub.hub import Channel
from service.identity.identity import Identity
from service.identity.permissions import moderates
from service.session import caller, users
from service.session.context import Context
from service.session.joining import Joined, Wish, join
from service.session.subscribing import Subscription, begin, bounds, from_memory, held

logger = logging.getLogger(__name__)

#: Channels that a node names in one report: some 500 KB.
MAX_CHANNELS = 10_000


class _Session(caller.Session, Protocol):
    def push(self, channel: str, kind: str, body: bytes) -> None:
        """Queue a push of a channel; `body` is a JSON object."""


class Outside:
    """Does it, in tasks of the node's where it takes reading."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = time.monotonic()
        #: Subscriptions under way, by session and channel.
        self._joining: dict[tuple[str, str], asyncio.Task[None]] = {}

    # Sessions. Who knows them by user needs little of them; they are whole.

    def subscribe(self, session: users.Session, name: str, info: bytes | None, data: bytes | None) -> None:
        """Subscribe a session to a channel, as a token does; unless it is, may not be, or has too many."""
        context, key, whole = self._context, (session.id, name), cast(_Session, session)
        namespace = context.settings.namespace_of(name)
        if namespace is None:
            logger.warning("a channel of no namespace that this node has: nobody is subscribed")
            return
        taken = len(whole.subscriptions) + whole.joining
        if key in self._joining or taken >= context.settings.limits.subscriptions:
            return
        asked = Subscription(name, namespace, info=info, data=data, server_side=True)
        if not self._wanted(whole, asked):
            return
        outcome = from_memory(context, asked) if self._bans_known(asked) else None
        if outcome is not None:
            self._begin(whole, asked, *outcome, hit=True)
            return
        task = self._joining[key] = context.tasks.start(self._subscribe(whole, asked))
        task.add_done_callback(lambda _: self._joining.pop(key))

    async def _subscribe(self, session: _Session, asked: Subscription) -> None:
        context = self._context
        session.joining += 1
        try:
            if not self._bans_known(asked):
                await context.bans.read(asked.channel)
            async with held(context, [asked]) as ((channel, live),):
                (joined,) = await join(context.hub, context.history, [Wish(channel, None)], bounds(context))
                # No wait between the last attempt and here: the subscription begins at that cursor.
                if self._wanted(session, asked):
                    self._begin(session, asked, channel, live, joined, hit=False)
        except StreamgateError as exc:
            logger.warning("a session could not be subscribed for the application: %s", exc)
        finally:
            session.joining -= 1

    def _begin(
        self,
        session: _Session,
        asked: Subscription,
        channel: Channel,
        live: Channel | None,
        joined: Joined,
        *,
        hit: bool,
    ) -> None:
        result = begin(session, self._context, asked, channel, live, joined, hit=hit)
        told = {key: result[key] for key in _TOLD if key in result}
        session.push(asked.channel, "subscribe", orjson.dumps(told))
        for publication in joined.publications:
            session.push(asked.channel, "pub", publication)

    def _bans_known(self, asked: Subscription) -> bool:
        return not asked.namespace.chat or self._context.bans.known(asked.channel)

    def _wanted(self, session: _Session, asked: Subscription) -> bool:
        """Whether the session has not got it yet, and is not kept out."""
        if asked.channel in session.subscriptions or session.outbox.closed:
            return False
        if asked.namespace.chat and not moderates(session.identity, None, asked.channel):
            try:
                self._context.bans.check(asked.channel, session.identity.user)
            except ReplyError:
                return False
        return True

    def stop(self, session: users.Session, name: str) -> None:
        """A subscription that is under way shall not come about."""
        if task := self._joining.get((session.id, name)):
            task.cancel()

    def expire(self, session: users.Session, at: float) -> None:
        """A session ends then, and not when its token says."""
        whole, old = cast(_Session, session), session.identity
        whole.identity = Identity(
            old.user,
            info=old.info,
            expires_at=at,
            issued_at=old.issued_at,
            capabilities=old.capabilities,
            subscriptions=old.subscriptions,
            meta=old.meta,
        )
        whole.expiries_changed()

    # The node, and its channels

    def report(self, to: str, pattern: str | None) -> None:
        """Tell somebody how this node is; with a pattern, who is subscribed to which of its channels."""
        self._context.tasks.start(self._report(to, pattern))

    async def _report(self, to: str, pattern: str | None) -> None:
        context, server = self._context, self._context.settings.server
        channels = context.hub.subscribed()
        connections = [
            sample for family in context.metrics.connections.collect() for sample in family.samples
        ]
        report: dict[str, Any] = {
            "uid": context.node,
            "name": f"{socket.gethostname()}_{server.port}",
            "version": __version__,
            "num_clients": int(sum(sample.value for sample in connections)),
            "num_users": len(context.users),
            "num_subs": sum(map(len, channels)),
            "num_channels": len(channels),
            "uptime": int(time.monotonic() - self._started),
        }
        if pattern is not None:
            matches = re.compile(fnmatch.translate(pattern)).match if pattern else bool
            found = {channel.name: len(channel) for channel in channels if matches(channel.name)}
            report["channels"] = found if len(found) <= MAX_CHANNELS else None
        try:
            await context.reports.answer(to, context.node, orjson.dumps(report))
        except StreamgateError as exc:
            logger.warning("a report could not be given: %s", exc)

    def forget(self, name: str) -> None:
        """What a channel's stream held was removed: nobody shall be given it from memory."""
        self._context.tasks.start(self._forget(name))

    async def _forget(self, name: str) -> None:
        channel = self._context.hub.get(name)
        if channel is None:
            return
        channel.window.evict()
        try:
            # What the tail has read before the removal and not delivered yet goes into the window, too.
            await self._context.hub.sync(channel)
        except StreamgateError as exc:
            logger.warning("a removed history may still be in memory: %s", exc)
        channel.window.evict()


#: What a subscribe push tells of a subscription.
_TOLD = ("recoverable", "positioned", "epoch", "offset", "data")
