"""Mail from node to node: each node follows a stream of its own, as it follows channels.

Whoever writes does so only where the stream exists, and only a node that lives keeps its own in existence:
so no list is needed of who lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import orjson

from service.channels import MAILBOX
from service.errors import CommandFailed, StreamgateError, Unavailable
from service.hub.hub import Channel, Hub
from service.hub.publication import Publication
from service.streams.backoff import Backoff
from service.streams.commands import Commands
from service.streams.entries import DATA
from service.streams.keys import Keys
from service.streams.position import format_id

logger = logging.getLogger(__name__)

#: Letters that a stream keeps, about. It is trimmed behind its reader; this bounds it where none reads.
KEPT_LETTERS = 1000

#: Seconds between two signs of life.
BEAT = 5.0

#: Seconds that a stream outlives its node's last sign of life.
KEPT_SECONDS = 30

#: Bytes of letters that Redis has not answered for yet. Beyond, nothing more is taken.
MAX_SENDING = 4 * 2**20

Letter = dict[str, Any]


class Receiver(Protocol):
    """Who reads the mail of this node."""

    def mail(self, letter: Letter) -> None:
        """One letter, in the order in which Redis took them."""

    def missed(self) -> None:
        """Letters may have been lost."""


class Mailbox:
    """The mail of this node. `run` ends when cancelled."""

    def __init__(self, node: str, commands: Commands, keys: Keys, hub: Hub, receiver: Receiver) -> None:
        self._commands = commands
        self._keys = keys
        self._hub = hub
        self._receiver = receiver
        self._key = keys.mailbox(node)
        self._channel: Channel | None = None
        self._lost = asyncio.Event()
        self._sending = 0

    async def send(self, node: str, letter: Letter) -> bool:
        """Write to another node; False where there is none of that name.

        Raises:
            Unavailable, CommandFailed: as `Commands.execute`; or too much is on its way already.
        """
        data = orjson.dumps(letter)
        if self._sending + len(data) > MAX_SENDING:
            raise Unavailable("too much is on its way to Redis")
        self._sending += len(data)
        try:
            key = self._keys.mailbox(node)
            command = ("XADD", key, "NOMKSTREAM", "MAXLEN", "~", KEPT_LETTERS, "*", DATA, data)
            return await self._commands.execute(*command) is not None
        finally:
            self._sending -= len(data)

    async def settle(self) -> None:
        """Return when all mail that Redis has now is read, as far as Redis can be asked."""
        if self._channel is not None:
            with contextlib.suppress(Unavailable):
                await self._hub.sync(self._channel)

    async def run(self) -> None:
        """Keep the stream in existence, and follow it; never returns."""
        backoff = Backoff()
        while self._channel is None:
            await self._commands.wait_connected()
            try:
                await self._keep()
                self._channel = await self._hub.hold(self._key, MAILBOX)
            except StreamgateError:
                await asyncio.sleep(backoff.next())
        self._channel.listener = self
        while True:
            self._lost.clear()
            try:
                await self._keep()
            except (Unavailable, CommandFailed):
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._lost.wait()

    async def aclose(self) -> None:
        """The node goes down: whoever writes learns so at once."""
        with contextlib.suppress(Unavailable):
            await self._commands.pipeline([("UNLINK", self._key, self._keys.epoch(self._key))])

    async def _keep(self) -> None:
        read = "0-0" if self._channel is None else format_id(self._channel.cursor)
        (exists, _) = await self._commands.execute_all(
            [
                ("EXPIRE", self._key, KEPT_SECONDS),
                # The last one that was read stays: it proves that nothing is missing behind it.
                ("XTRIM", self._key, "MINID", read),
            ]
        )
        if not exists:
            expire = ("EXPIRE", self._key, KEPT_SECONDS)
            await self._commands.transaction([("XADD", self._key, "*", DATA, b"{}"), expire])

    # The hub's Listener

    def heard(self, publications: list[Publication]) -> None:
        """Hand on what was written."""
        for publication in publications:
            letter = orjson.loads(publication.json)["data"]
            if not isinstance(letter, dict):
                continue
            try:
                self._receiver.mail(letter)
            except Exception:  # one that goes wrong must not keep the next from being read
                logger.exception("a letter could not be handed on")

    def missed(self) -> None:
        """The stream was trimmed or flushed past this node."""
        self._lost.set()
        self._receiver.missed()
