"""`streamgate subscribe`: publications to standard output, what happens to standard error."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson

from service.client import Client
from service.client.events import (
    Connected,
    Connecting,
    ConnectionFailed,
    Event,
    Publication,
    Refused,
    Subscribed,
    Unsubscribed,
    Waiting,
)


class _Printer:
    """Prints events; `done` ends the command: enough was printed, or nobody reads any more."""

    def __init__(self, *, whole: bool, count: int) -> None:
        self._whole = whole
        self._left = count or -1
        self._lost = False
        self._waiting: set[str] = set()  # channels whose absence has been told
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __call__(self, event: Event) -> None:
        match event:
            case Publication():
                self._publication(event)
            case Connecting(code, reason, delay):
                self._lost = True
                why = " ".join(part for part in (reason, f"({code})" if code else "") if part)
                _tell(f"connection lost{': ' if why else ''}{why}; trying again in {delay:.1f} s")
            case Connected() if self._lost:
                self._lost = False
                _tell("connected again")
            case Waiting(channel, code, reason) if channel not in self._waiting:
                self._waiting.add(channel)
                why = "the node has no Redis now" if code == 100 else reason
                _tell(f"{channel}: {why} (error {code}); trying again")
            case Subscribed(channel, _, was_recovering, recovered):
                if channel in self._waiting:
                    self._waiting.discard(channel)
                    _tell(f"{channel}: subscribed")
                if was_recovering and not recovered:
                    _tell(f"{channel}: recovered: false, publications were missed")
            case Unsubscribed(channel, code, reason) if code < 2500:
                _tell(f"{channel}: the server ended the subscription: {reason} ({code})")
            case _:
                pass

    def _publication(self, publication: Publication) -> None:
        if self.done.done():
            return
        try:
            sys.stdout.write(self._line(publication) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has enough (`… | head`). What is still buffered must not complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.done.set_result(None)
            return
        except OSError as exc:
            self.done.set_exception(exc)
            return
        self._left -= 1
        if self._left == 0:
            self.done.set_result(None)

    def _line(self, publication: Publication) -> str:
        if self._whole:
            return orjson.dumps({"channel": publication.channel, **publication.raw}).decode()
        return f"{publication.channel}\t{orjson.dumps(publication.data).decode()}"


def _tell(text: str) -> None:
    sys.stderr.write(f"streamgate: {text}\n")


async def follow(url: str, channels: list[str], *, token: str, whole: bool, count: int) -> None:
    """Print what is published, until `count` publications (0: without end) or Ctrl-C.

    Args:
        token: says who the client is; "": nobody.

    Raises:
        ClientError: the node cannot be reached, refuses a channel, or ends the session for good.
        OSError: standard output cannot be written; a reader that has gone away is no error.
    """
    printer = _Printer(whole=whole, count=count)
    try:
        async with Client(url, on_event=printer, token=token, name="streamgate-cli") as client:
            for channel in channels:
                try:
                    await client.subscribe(channel)
                except Refused as exc:
                    exc.args = (f"{channel}: {exc}",)
                    raise
            closed = asyncio.ensure_future(client.wait_closed())
            done, pending = await asyncio.wait([closed, printer.done], return_when="FIRST_COMPLETED")
            for future in pending:
                future.cancel()
            for future in done:
                future.result()
    except ConnectionFailed as exc:
        raise ConnectionFailed(f"{url}: {exc}") from None
