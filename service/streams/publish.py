"""Writing publications to streams."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from service import channels
from service.channels import Namespace
from service.errors import Unavailable
from service.metrics import Metrics
from service.streams.again import again
from service.streams.commands import Commands
from service.streams.entries import DATA, INFO, TAGS
from service.streams.keys import Keys
from service.streams.link import Argument
from service.streams.lua import Script
from service.streams.position import StreamId, parse_id

#: Milliseconds that an idempotency key is remembered.
IDEMPOTENCY_MS = 300_000

_PUBLISH = Script.of("service.streams.lua", "publish.lua")


class Written(NamedTuple):
    """Where a publication is in its stream; `duplicate`: it was there already."""

    id: StreamId
    epoch: str
    duplicate: bool


class Publisher:
    """Publishes for clients and the application.

    A publication reaches everybody, its publisher too, through the tail.
    """

    def __init__(self, commands: Commands, keys: Keys, metrics: Metrics) -> None:
        self._commands = commands
        self._keys = keys
        self._metrics = metrics

    async def publish(
        self, channel: str, namespace: Namespace, data: bytes, info: bytes | None = None
    ) -> StreamId:
        """Append an entry; trims the stream by the namespace's size on the way.

        Args:
            data: valid JSON.
            info: JSON object that says who publishes.

        Raises:
            Unavailable: the entry may have been written or not; it is not tried again, since it
                could then be written twice.
            CommandFailed: Redis refused, for example for want of memory.
        """
        command: list[Argument] = ["XADD", self._keys.stream(channel)]
        if namespace.history_size:
            command += ("MAXLEN", "~", namespace.history_size)
        command += ("*", DATA, data)
        if info is not None:
            command += (INFO, info)
        started = time.perf_counter()
        entry_id = parse_id(await self._commands.execute(*command))
        self._metrics.publish_seconds.observe(time.perf_counter() - started)
        self._metrics.published[channels.label(channel)].inc()
        return entry_id

    async def publish_once(
        self, channel: str, namespace: Namespace, data: bytes, *, tags: bytes | None = None, key: str = ""
    ) -> Written:
        """Append an entry for the application; one whose key was used here of late is not written again.

        Args:
            data: valid JSON.
            tags: JSON object of strings.
            key: the idempotency key; "": none.

        Raises:
            Unavailable: the entry may have been written or not. With a key it was tried again, and the
                caller may do so, too.
            CommandFailed: as `publish`.
        """
        keys = [self._keys.stream(channel), self._keys.epoch(channel)]
        if key:
            keys.append(f"{self._keys.beside('idempotency', channel)}:{key}")
        fields = [DATA, data] if tags is None else [DATA, data, TAGS, tags]
        arguments: list[Argument] = [secrets.token_hex(8), namespace.history_size, IDEMPOTENCY_MS, *fields]
        started = time.perf_counter()
        try:
            reply = await self._commands.script(_PUBLISH, keys, arguments)
        except Unavailable:
            if not key:
                raise
            # The key makes it safe: what the lost answer was about is found, not written twice.
            reply = await again(self._commands, lambda: self._commands.script(_PUBLISH, keys, arguments))
        entry_id, epoch, duplicate = reply
        if not duplicate:
            self._metrics.publish_seconds.observe(time.perf_counter() - started)
            self._metrics.published[channels.label(channel)].inc()
        return Written(parse_id(entry_id), epoch.decode(errors="replace"), bool(duplicate))
