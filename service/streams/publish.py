"""Writing publications to streams."""

from __future__ import annotations

import time

from service import channels
from service.channels import Namespace
from service.metrics import Metrics
from service.streams.commands import Commands
from service.streams.entries import DATA, INFO
from service.streams.keys import Keys
from service.streams.link import Argument
from service.streams.position import StreamId, parse_id


class Publisher:
    """Publishes for clients. A publication reaches everybody, its publisher too, through the tail."""

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
