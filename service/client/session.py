"""What belongs to one connection of the client, and how its messages and errors are read."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.client.events import ClientError, Position, Publication, Subscribed

#: The longest that a server may ask a client to stay away for, in seconds.
MAX_RETRY_AFTER_SECONDS = 200.0


@dataclass(slots=True)
class Subscription:
    """A channel the client wants, and where it is in it. `ready` is done at the first success."""

    channel: str
    position: Position | None
    ready: asyncio.Future[Subscribed]
    attempts: int = 0
    retry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Call:
    """A command under way: its answer goes to the future, or belongs to the subscription."""

    method: str
    future: asyncio.Future[dict[str, Any]] | None = None
    subscription: Subscription | None = None


@dataclass(slots=True)
class Session:
    """What belongs to one connection."""

    socket: ClientConnection
    calls: dict[int, Call] = field(default_factory=dict)
    last_id: int = 0
    silence: float = 0.0  # seconds without a frame that end it; 0: no limit known yet
    pong: bool = False
    outgoing: list[bytes] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, line: bytes) -> None:
        """Hand a message to the writer."""
        self.outgoing.append(line)
        self.wake.set()

    async def send_outgoing(self) -> None:
        """Send what is written, all that is there in one frame, until cancelled or cut."""
        try:
            while True:
                await self.wake.wait()
                self.wake.clear()
                lines, self.outgoing = self.outgoing, []
                await self.socket.send(b"\n".join(lines), text=True)
        except ConnectionClosed:
            pass  # the reader sees it too, and tells


def decode(line: str | bytes) -> dict[str, Any]:
    """One message of the server.

    Raises:
        ClientError: it is not a JSON object.
    """
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise ClientError(f"the server does not speak this protocol: not JSON: {exc}") from None
    if not isinstance(message, dict):
        raise ClientError("the server does not speak this protocol: not a JSON object")
    return message


def publication(channel: str, raw: dict[str, Any]) -> Publication:
    """A publication as it came, as an event."""
    return Publication(
        channel, raw.get("data"), raw.get("offset", 0), raw.get("tags") or {}, raw.get("info"), raw
    )


def explain(exc: Exception) -> str:
    """Why a connection did not come about, in a few words."""
    if isinstance(exc, InvalidStatus):
        status = exc.response.status_code
        hint = "; the path is /connection/websocket" if status == 404 else ""
        return f"the server answered HTTP {status}{hint}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return "no TLS connection; without TLS the URL begins with ws://"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError) and (exc.errno or 0) > 0:
        return os.strerror(exc.errno or 0).lower()
    # asyncio joins the failures of several addresses into one text.
    number = re.search(r"\[Errno (\d+)\]", str(exc))
    return os.strerror(int(number[1])).lower() if number else re.sub(r"^\[Errno -\d+\] ", "", str(exc))


def retry_after(exc: Exception) -> float:
    """Seconds that the server asks to stay away for, where it refuses the handshake."""
    value = exc.response.headers.get("Retry-After", "") if isinstance(exc, InvalidStatus) else ""
    return min(float(value), MAX_RETRY_AFTER_SECONDS) if value.isdigit() else 0.0
