"""A detached WebSocket connection: bytes in, messages to the session; the session's bytes out.

Full RFC 6455 by `websockets`' sans-I/O parser, without a coroutine, a queue or a task. Incoming
bytes are fed in small pieces, and after `SLICE` seconds for one connection its reading is paused
until the next turn of the loop, so that a flood of tiny frames delays nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import ClassVar

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode

from service.errors import INAPPROPRIATE_PROTOCOL, Disconnect
from service.hub.publication import WireFormat
from service.session.codec import JSON, Codec
from service.session.context import Context
from service.session.state import State
from service.transports.connection import Connection
from service.transports.frames import text_frame
from service.transports.json_websocket import JSON_WEBSOCKET
from service.transports.parsers import OPEN, Parser, Parsers, size_on_wire

logger = logging.getLogger(__name__)

#: Bytes fed to the parser between two looks at the clock: at most some 170 frames.
PIECE = 1024

#: Seconds of parsing for one connection before the others get their turn.
SLICE = 0.001

#: Bytes a client may send after our close frame before it is cut off.
MAX_AFTER_CLOSE = 2048


class WebSocketConnection(Connection):
    """One client's connection, after the handshake. Made by the endpoint's call of `streamgate.detach`.

    It speaks JSON; `protobuf_websocket.ProtobufConnection` is the other one.
    """

    name: ClassVar = "websocket"
    format: WireFormat = JSON_WEBSOCKET
    codec: Codec = JSON
    #: Whether messages are text.
    text: ClassVar = True

    __slots__ = (
        "_after_close",
        "_fragments",
        "_parser",
        "_parsers",
        "_paused",
        "_rest",
        "_text",
        "_unparsed",
    )

    def __init__(self, context: Context, parsers: Parsers, transport: asyncio.Transport) -> None:
        super().__init__(context, transport)
        self._parsers = parsers
        # Only in the middle of something, and from the closing handshake on.
        self._parser: Parser | None = None
        # Bytes fed to the parser that no frame has accounted for yet.
        self._unparsed = 0
        # A fragmented message under way, and whether it is text.
        self._fragments: bytearray | None = None
        self._text = True
        # Bytes not yet fed to the parser, and how many have asked to read no more.
        self._rest = b""
        self._paused = 0
        self._after_close = 0

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Parse, a piece at a time."""
        if self._session.state >= State.CLOSING:
            # Only the client's close frame is still of interest, and it is not worth a flood.
            self._after_close += len(data)
            if self._after_close > MAX_AFTER_CLOSE:
                self.abort()
                return
        if self._rest:
            self._rest += data
            return
        try:
            self._feed(data)
        except Exception:
            self._failed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._rest = b""
        super().connection_lost(exc)

    # What the session asks for

    def frame(self, message: bytes) -> bytes:
        """A message as a text frame."""
        return text_frame(message)

    def close(self, disconnect: Disconnect) -> None:
        """Send a close frame and wait for the client's; the session sees to it that this ends."""
        if self._transport.is_closing():
            return
        parser = self._parser = self._parser or self._parsers.take()
        if parser.state is OPEN:
            parser.send_close(disconnect.code, disconnect.reason)
            self._write_parser_output(parser)
        if self._paused:  # the client's close frame must be seen
            self._paused = 1
            self.resume_reading()

    def pause_reading(self) -> None:
        """One more has asked to read no more."""
        self._paused += 1
        if self._paused == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """One less; the last one has us go on."""
        self._paused -= 1
        if self._paused == 0 and not self._transport.is_closing():
            self._transport.resume_reading()
            if self._rest:
                self._feed_rest()

    # Parsing

    def _feed(self, data: bytes) -> None:
        ends = time.perf_counter() + SLICE
        parser = self._parser = self._parser or self._parsers.take()
        at = 0
        while at < len(data):
            if self._session.state >= State.CLOSING and at > MAX_AFTER_CLOSE:
                self.abort()
                return
            piece = data[at : at + PIECE]
            parser.receive_data(piece)
            self._unparsed += len(piece)
            at += PIECE
            self._handle_events(parser)
            if self._transport.is_closing():
                return
            if at < len(data) and (self._paused or time.perf_counter() > ends):
                self._rest = data[at:]
                if not self._paused:
                    self.pause_reading()
                    asyncio.get_running_loop().call_soon(self.resume_reading)
                return
        if self._unparsed == 0 and self._fragments is None and parser.state is OPEN:
            self._parser = None
            self._parsers.give_back(parser)

    def _feed_rest(self) -> None:
        rest, self._rest = self._rest, b""
        try:
            self._feed(rest)
        except Exception:
            self._failed()

    def _handle_events(self, parser: Parser) -> None:
        for event in parser.events_received():
            if isinstance(event, Frame):
                self._unparsed -= size_on_wire(event)
                self._handle_frame(parser, event)
        if parser.state is not OPEN:
            self._end_of_parsing(parser)

    def _handle_frame(self, parser: Parser, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._text = frame.opcode is Opcode.TEXT
                if frame.fin:
                    self._handle_message(parser, bytes(frame.data))
                else:
                    self._fragments = bytearray(frame.data)
            case Opcode.CONT:
                if not self._session.spend():
                    return
                assert self._fragments is not None
                self._fragments += frame.data  # bounded by the parser, as every message is
                if frame.fin:
                    message, self._fragments = bytes(self._fragments), None
                    self._handle_message(parser, message)
            case Opcode.PONG:
                self._session.spend()
            case Opcode.PING:
                # The parser has made the pong; it goes out behind what is pending.
                if self._session.spend():
                    for data in parser.data_to_send():
                        self._session.outbox.send(data)

    def _handle_message(self, parser: Parser, message: bytes) -> None:
        if self._text is not self.text:
            self._session.close(INAPPROPRIATE_PROTOCOL)
            return
        if self._text:
            try:
                message.decode()
            except UnicodeDecodeError as exc:
                parser.fail(1007, f"{exc.reason} at position {exc.start}")
                return
        self._session.receive(message)

    def _end_of_parsing(self, parser: Parser) -> None:
        """The client has closed, or broken the protocol: answer, and close the socket."""
        if isinstance(parser.parser_exc, ProtocolError):
            logger.debug("a client broke RFC 6455: %s", parser.parser_exc)
        if parser.eof_sent:
            self._write_parser_output(parser)
            self._transport.close()
            self._session.end()

    def _write_parser_output(self, parser: Parser) -> None:
        for data in parser.data_to_send():
            if data:
                self._transport.write(data)  # behind what it may have buffered
