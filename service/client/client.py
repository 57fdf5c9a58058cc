"""A small client of the JSON protocol, for the command line and for scripts.

    async with Client("ws://127.0.0.1:8000/connection/websocket", on_event=print) as client:
        await client.subscribe("quotes:AAPL")
        await client.wait_closed()

What happens arrives as events, in order, through one callback: there is no queue to overflow, and
a callback that takes long holds up the reader, so that the server sees a slow client. After a cut
the client reconnects with full-jitter back-off and resumes each channel from its position.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from service.client.events import (
    Connected,
    Connecting,
    ConnectionFailed,
    Disconnected,
    Event,
    Position,
    Publication,
    Refused,
    Subscribed,
    Unsubscribed,
    Waiting,
)
from service.client.session import Call, Session, Subscription, decode, explain, publication, retry_after

#: Seconds beyond the server's ping interval after which a silent connection is given up.
PING_GRACE_SECONDS = 10.0

#: Seconds that a connection may take to open, and a command to be answered.
TIMEOUT_SECONDS = 5.0

#: Bounds of the back-off before a reconnect, in seconds.
MIN_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 20.0

#: Largest message from a server, in bytes; a reply with a recovery is one message.
MAX_MESSAGE_BYTES = 64 * 2**20


class Client:
    """A session with a server, kept alive.

    Args:
        url: `ws://` or `wss://`, up to `/connection/websocket`.
        on_event: called with each event, in order, from the event loop; must not block.
        token: sent with connect.
        data: JSON value sent with connect.
        name: what the client calls itself in the server's eyes.
    """

    def __init__(
        self,
        url: str,
        *,
        on_event: Callable[[Event], None] = lambda event: None,
        token: str = "",
        data: Any = None,
        name: str = "streamgate-python",
    ) -> None:
        self._url = url
        self._emit = on_event
        self._connect = {
            key: value for key, value in (("token", token), ("data", data), ("name", name)) if value
        }
        self._subscriptions: dict[str, Subscription] = {}
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConnectionFailed: the server cannot be reached.
            Disconnected: it ended the session for good.
            Refused: it refused the connect command.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(first), name="streamgate-client")
        try:
            await first
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # told by wait_closed, to whoever asked
        for subscription in self._subscriptions.values():
            if subscription.retry is not None:
                subscription.retry.cancel()
            subscription.ready.cancel()

    async def wait_closed(self) -> None:
        """Wait for the end of the session.

        Raises:
            Disconnected: the server ended it for good.
            Refused: the server refused to connect again.
        """
        assert self._task is not None, "not connected"
        await asyncio.shield(self._task)

    async def subscribe(self, channel: str, position: Position | None = None) -> Subscribed:
        """Subscribe; from then on publications arrive as events, also after reconnects.

        Args:
            channel: its name.
            position: where to go on; None: from now on.

        Raises:
            Refused: the server does not allow it.
            ValueError: subscribed already.
        """
        if channel in self._subscriptions:
            raise ValueError(f"subscribed to {channel} already")
        subscription = Subscription(channel, position, asyncio.get_running_loop().create_future())
        self._subscriptions[channel] = subscription
        self._send_subscribe(subscription)
        return await asyncio.shield(subscription.ready)

    def unsubscribe(self, channel: str) -> None:
        """End a subscription; one that does not exist is no error."""
        subscription = self._subscriptions.pop(channel, None)
        if subscription is None:
            return
        if subscription.retry is not None:
            subscription.retry.cancel()
        if not subscription.ready.done():
            subscription.ready.cancel()
        self._send("unsubscribe", {"channel": channel}, Call("unsubscribe"))

    async def publish(self, channel: str, data: Any) -> None:
        """Publish a JSON value. Raises `Refused` or `ConnectionFailed`."""
        await self._call("publish", {"channel": channel, "data": data})

    async def history(
        self, channel: str, *, limit: int = 0, since: Position | None = None, reverse: bool = False
    ) -> tuple[list[Publication], Position]:
        """A page of a channel's history and the channel's position.

        Args:
            channel: its name.
            limit: publications at most; 0: the position only; -1: as many as the server gives.
            since: after (or, reversed, before) which to begin.
            reverse: newest first.

        Raises:
            Refused: not allowed, or the position is not recoverable.
            ConnectionFailed: there was no answer.
        """
        request: dict[str, Any] = {"channel": channel, "limit": limit, "reverse": reverse}
        if since is not None:
            request["since"] = since._asdict()
        result = await self._call("history", {key: value for key, value in request.items() if value})
        publications = [publication(channel, raw) for raw in result.get("publications") or ()]
        return publications, Position(result.get("offset", 0), result.get("epoch", ""))

    async def rpc(self, method: str, data: Any = None) -> Any:
        """Call a method of the server. Raises `Refused` or `ConnectionFailed`."""
        return (await self._call("rpc", {"method": method, "data": data})).get("data")

    # The connection's life.

    async def _run(self, first: asyncio.Future[None]) -> None:
        try:
            await self._keep_connected(first)
        except Exception as exc:
            for subscription in self._subscriptions.values():
                if not subscription.ready.done():
                    subscription.ready.set_exception(exc)
                    subscription.ready.exception()  # whoever waits still sees it; nobody need wait
            # Before the first connect is through, whoever entered the client is told, else who waits.
            if first.done():
                raise
            first.set_exception(exc)

    async def _keep_connected(self, first: asyncio.Future[None]) -> None:
        attempt = 0
        while True:
            code, reason, least = 0, "", 0.0
            try:
                socket = await connect(
                    self._url,
                    compression=None,
                    ping_interval=None,
                    open_timeout=TIMEOUT_SECONDS,
                    close_timeout=1.0,
                    max_size=MAX_MESSAGE_BYTES,
                )
            except InvalidURI as exc:
                raise ConnectionFailed(f"no WebSocket URL: {exc.msg}") from None
            except ValueError as exc:  # from the standard library's parser of URLs
                raise ConnectionFailed(f"no WebSocket URL: {exc}") from None
            except (OSError, InvalidHandshake, TimeoutError) as exc:
                reason, least = explain(exc), retry_after(exc)
            else:
                code, reason = await self._converse(socket, first)
                attempt = 0
            if 3500 <= code <= 3999 or 4500 <= code <= 4999:
                raise Disconnected(code, reason)
            if not first.done():
                raise ConnectionFailed(reason or f"the server closed the connection ({code})")
            ceiling = min(MAX_DELAY_SECONDS, MIN_DELAY_SECONDS * 2**attempt)
            delay = max(least, random.uniform(0, ceiling))
            attempt += 1
            self._emit(Connecting(code, reason, delay))
            await asyncio.sleep(delay)

    async def _converse(self, socket: ClientConnection, first: asyncio.Future[None]) -> tuple[int, str]:
        """From connect to the end of one connection: the close code, 0 for none, and the reason."""
        self._session = session = Session(socket)
        connected: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._send("connect", self._connect, Call("connect", connected))
        for subscription in self._subscriptions.values():
            self._send_subscribe(subscription)
        writer = asyncio.create_task(session.send_outgoing(), name="streamgate-client-writer")
        try:
            async with socket, asyncio.timeout(TIMEOUT_SECONDS) as deadline:
                async for message in socket:
                    for line in message.splitlines():
                        if line.strip():
                            self._dispatch(session, decode(line))
                    if connected.done():
                        connected.result()
                        if not first.done():
                            first.set_result(None)
                    if session.silence:
                        deadline.reschedule(asyncio.get_running_loop().time() + session.silence)
        except ConnectionClosed:
            pass  # the close code, below, says what there is to say
        except TimeoutError:
            return 0, "the server was silent for too long"
        except Refused as exc:
            if not exc.temporary:
                raise
            return 0, str(exc)
        finally:
            self._session = None
            writer.cancel()
            await asyncio.wait([writer])
            for call in session.calls.values():
                if call.future is not None and not call.future.done():
                    call.future.set_exception(ConnectionFailed("the connection was lost"))
                    call.future.exception()  # whoever waits still sees it; nobody need wait
        return socket.close_code or 0, socket.close_reason or ""

    def _dispatch(self, session: Session, message: dict[str, Any]) -> None:
        if not message:
            if session.pong:
                session.write(b"{}")
        elif "push" in message:
            self._dispatch_push(message["push"])
        elif (call := session.calls.pop(message.get("id", 0), None)) is not None:
            error = message.get("error")
            refusal = error and Refused(
                error["code"], error.get("message", ""), temporary=error.get("temporary", False)
            )
            result = message.get(call.method) or {}
            if call.method == "connect" and not refusal:
                ping = result.get("ping", 0)
                session.silence = ping + PING_GRACE_SECONDS if ping else 0.0
                session.pong = result.get("pong", False)
                self._emit(Connected(result.get("client", "")))
            if call.subscription is not None:
                self._on_subscribe_reply(call.subscription, result, refusal)
            elif call.future is not None and not call.future.done():
                if refusal:
                    call.future.set_exception(refusal)
                else:
                    call.future.set_result(result)

    def _dispatch_push(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if channel not in self._subscriptions:
            return
        if "pub" in push:
            self._on_publication(self._subscriptions[channel], push["pub"])
        elif "unsubscribe" in push:
            code, reason = push["unsubscribe"].get("code", 0), push["unsubscribe"].get("reason", "")
            self._emit(Unsubscribed(channel, code, reason))
            if code < 2500:
                del self._subscriptions[channel]
            else:
                self._send_subscribe(self._subscriptions[channel])

    # Subscriptions.

    def _send_subscribe(self, subscription: Subscription) -> None:
        if subscription.retry is not None:
            subscription.retry.cancel()
            subscription.retry = None
        request: dict[str, Any] = {"channel": subscription.channel}
        if subscription.position is not None:
            request["recover"] = True
            request.update({key: value for key, value in subscription.position._asdict().items() if value})
        self._send("subscribe", request, Call("subscribe", subscription=subscription))

    def _on_subscribe_reply(
        self, subscription: Subscription, result: dict[str, Any], refusal: Refused | None
    ) -> None:
        if self._subscriptions.get(subscription.channel) is not subscription:
            return  # unsubscribed in between
        if refusal is not None:
            self._on_subscribe_refused(subscription, refusal)
            return
        subscription.attempts = 0
        if result.get("recoverable"):
            subscription.position = Position(result.get("offset", 0), result.get("epoch", ""))
        event = Subscribed(
            subscription.channel,
            subscription.position,
            result.get("was_recovering", False),
            result.get("recovered", False),
        )
        self._emit(event)
        for raw in result.get("publications") or ():
            self._on_publication(subscription, raw)
        if not subscription.ready.done():
            subscription.ready.set_result(event)

    def _on_subscribe_refused(self, subscription: Subscription, refusal: Refused) -> None:
        if refusal.temporary:
            self._emit(Waiting(subscription.channel, refusal.code, refusal.message))
            ceiling = min(MAX_DELAY_SECONDS, MIN_DELAY_SECONDS * 2**subscription.attempts)
            subscription.attempts += 1
            delay = random.uniform(0, ceiling)
            subscription.retry = asyncio.get_running_loop().call_later(delay, self._retry, subscription)
            return
        del self._subscriptions[subscription.channel]
        if subscription.ready.done():
            self._emit(Unsubscribed(subscription.channel, refusal.code, refusal.message))
        else:
            subscription.ready.set_exception(refusal)

    def _retry(self, subscription: Subscription) -> None:
        subscription.retry = None
        self._send_subscribe(subscription)

    def _on_publication(self, subscription: Subscription, raw: dict[str, Any]) -> None:
        event = publication(subscription.channel, raw)
        if event.offset and subscription.position is not None:
            subscription.position = subscription.position._replace(offset=event.offset)
        self._emit(event)

    # Commands out.

    def _send(self, method: str, request: dict[str, Any], call: Call) -> None:
        """Hand a command to the writer; without a connection nothing happens (connecting subscribes)."""
        session = self._session
        if session is None:
            return
        session.last_id += 1
        session.calls[session.last_id] = call
        session.write(orjson.dumps({"id": session.last_id, method: request}))

    async def _call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise ConnectionFailed("not connected")
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._send(method, request, Call(method, future))
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await future
        except TimeoutError:
            raise ConnectionFailed(f"no answer to {method} in {TIMEOUT_SECONDS:g} s") from None
