"""A WebSocket call of an ASGI app: its messages on one side, frames on the other.

How it ends, and what the app learns (then it has TOLD_S to end by itself)::

    client closes                websocket.disconnect with its code
    client is gone               websocket.disconnect 1006; an app that does not ask: cancelled after NOTICE_S
    frames that are not legal    closed with 1002, 1007 or 1009; websocket.disconnect with that code
    the replica leaves           closed with 1012; websocket.disconnect 1012
    the app closes, or returns   closed with its code, or 1000; what it does afterwards nobody cancels
    the app fails                closed with 1011, the traceback is logged

Source: RFC 6455 (5 to 7), ASGI 3.0, HTTP and WebSocket messages 2.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State

from tailrace_runtime.asgi import (
    ASKS_AGAIN_S,
    App,
    ClientLeft,
    Message,
    Reply,
    Scope,
    is_of_leaving,
    misplaced,
    read_headers,
)
from tailrace_runtime.call import Call
from tailrace_runtime.exchange import FAIR_ITEMS, Exchange
from tailrace_runtime.framing import status_line
from tailrace_runtime.handshake import accept_head, offered_subprotocols, refusal
from tailrace_runtime.journal import Journal

# An app that was told that its socket is closed may clean up this long before it is cancelled.
TOLD_S = 5.0
# One that is busy elsewhere gets this long to ask.
NOTICE_S = 0.1
# How long the other side may take to answer a close.
CLOSE_S = 5.0
# After frames that are not legal: what the client still sends is read and dropped this long, because a
# connection closed on unread bytes can lose the close frame on its way.
LINGER_S = 1.0
# Nothing more is read while the app has this much unread.
UNREAD_BYTES = 64 * 1024
UNREAD_MESSAGES = 32
# While nothing is read, the client's leaving is asked for this often.
WATCH_S = 0.5
_MAX_REASON_BYTES = 123
# Belongs to no tree: an app that sets up logging does not get the library's line for each connection.
_logger = logging.Logger("tailrace.websocket", logging.ERROR)


class _Phase(Enum):
    CONNECTING = 1
    OPEN = 2
    REFUSED = 3


async def serve_websocket(
    app: App, scope: Scope, call: Call, exchange: Exchange, *, journal: Journal, message_limit: int
) -> None:
    """Serve one call until the app and its connection are over.

    Args:
        message_limit: Bytes of one message; a longer one closes the socket with 1009.
    """
    refused = refusal(call)
    if refused is not None:
        status, headers, body = refused
        exchange.start(status_line(status), [*headers, ("Content-Length", str(len(body)))])
        exchange.finish(body)
        return
    socket = WebSocket(call, exchange, message_limit)
    exchange.when_gone(socket.lose)
    try:
        await app(scope | _websocket_scope(call, scope), socket.receive, socket.send)
    except BaseException as error:
        socket.take_failure(error, journal)
    else:
        socket.take_return()
    with contextlib.suppress(asyncio.CancelledError):  # of the app, which is over
        await socket.wait_over()


def _websocket_scope(call: Call, scope: Scope) -> Scope:
    return {
        "type": "websocket",
        "scheme": "wss" if scope["scheme"] == "https" else "ws",
        "subprotocols": offered_subprotocols(call),
        "extensions": {"websocket.http.response": {}},
    }


class WebSocket:
    """An app's socket; the `Tunnel` of its exchange.

    What was not read yet is bounded by UNREAD_BYTES and UNREAD_MESSAGES, one read of the socket and one
    message: beyond it the client waits. What was not sent yet makes the app wait in send().
    """

    def __init__(self, call: Call, exchange: Exchange, message_limit: int) -> None:
        self._call = call
        self._exchange = exchange
        self._protocol = Protocol(Side.SERVER, max_size=message_limit, logger=_logger)
        self._denial = Reply(exchange, "websocket.http.response")
        self._phase = _Phase.CONNECTING
        self._was_connect_given = False
        self._unread: deque[tuple[Message, int]] = deque()
        self._unread_bytes = 0
        self._parts = bytearray()
        self._is_text = False
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()
        self._goodbye: Message | None = None
        self._was_told = False
        self._is_apps_end = False
        self._listeners = 0
        self._count = 0
        self._is_held = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    # What the app calls.

    async def receive(self) -> Message:
        """The next message; once the socket is closed and all was read, websocket.disconnect each time."""
        if not self._was_connect_given:
            self._was_connect_given = True
            return {"type": "websocket.connect"}
        await self._wait_message()
        if not self._unread:
            assert self._goodbye is not None, "there was something to wait for"
            self._tell()
            return self._goodbye
        message, size = self._unread.popleft()
        self._unread_bytes -= size
        if self._unread_bytes <= UNREAD_BYTES // 2 and len(self._unread) <= UNREAD_MESSAGES // 2:
            self._release()
        return message

    async def send(self, message: Message) -> None:
        """Take one message of the app; wait while the client is slow.

        Raises:
            ClientLeft: the socket is closed.
            RuntimeError, ValueError: the message is not one that can come here.
        """
        kind = str(message["type"])
        if self._exchange.is_gone and kind != "websocket.close":
            raise ClientLeft("the client left")
        if self._phase is _Phase.CONNECTING:
            await self._answer(kind, message)
        elif self._phase is _Phase.REFUSED:
            await self._denial.send(message)
        elif kind == "websocket.send":
            await self._send_data(message)
        elif kind == "websocket.close":
            self._is_apps_end = True
            self._close(cast("int", message.get("code") or 1000), str(message.get("reason") or ""))
        else:
            raise misplaced(kind)

    async def _wait_message(self) -> None:
        self._listeners += 1
        try:
            if self._was_told:
                await asyncio.sleep(ASKS_AGAIN_S)
            while not self._unread and self._goodbye is None:
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._listeners -= 1

    async def _answer(self, kind: str, message: Message) -> None:
        """The app's word about the handshake."""
        if kind == "websocket.accept":
            subprotocol = cast("str | None", message.get("subprotocol"))
            head = accept_head(self._call, subprotocol=subprotocol, headers=read_headers(message))
            self._phase = _Phase.OPEN
            self._exchange.switch(head, self)
        elif kind == "websocket.close":
            self._refuse()
            headers = [(b"content-length", b"0")]
            await self._denial.send(
                {"type": "websocket.http.response.start", "status": 403, "headers": headers}
            )
            await self._denial.send({"type": "websocket.http.response.body"})
        elif kind == "websocket.http.response.start":
            self._refuse()
            await self._denial.send(message)
        else:
            raise misplaced(kind)

    def _refuse(self) -> None:
        self._phase = _Phase.REFUSED
        self._say_goodbye(1006, "")

    async def _send_data(self, message: Message) -> None:
        if self._protocol.state is not State.OPEN:
            raise ClientLeft("the WebSocket is closed")
        text = cast("str | None", message.get("text"))
        if text is not None:
            self._protocol.send_text(text.encode())
        else:
            self._protocol.send_binary(cast("bytes", message["bytes"]))
        self._flush()
        self._count += 1
        if self._exchange.is_paused or not self._count % FAIR_ITEMS:
            await self._exchange.wait_writable()

    # How the app ends.

    def take_return(self) -> None:
        """The app returned. Raises RuntimeError: it owes the handshake an answer."""
        self._is_apps_end = True
        if self._phase is _Phase.OPEN:
            self._close(1000, "")
        elif self._exchange.is_gone or self._denial.is_whole:
            self._over.set()
        else:
            raise RuntimeError("the app returned before it answered the WebSocket's handshake")

    def take_failure(self, error: BaseException, journal: Journal) -> None:
        """The app raised, or was cancelled. Raises it again where the exchange can still answer 500."""
        is_open, is_gone = self._phase is _Phase.OPEN, self._exchange.is_gone
        is_expected = self._goodbye is not None and isinstance(error, asyncio.CancelledError)
        if not is_open and not is_gone:
            raise error
        if not (is_expected or is_of_leaving(error)):
            journal.failure(error)
        self._is_apps_end = True
        if is_open:
            self._close(1011, "the function failed")
        else:
            self._over.set()

    async def wait_over(self) -> None:
        """Wait until the connection is closed, CLOSE_S at most after the close was sent."""
        await self._over.wait()

    # What the exchange calls.

    def feed(self, data: bytes) -> None:
        """Take bytes of the client, and answer its pings."""
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            self._take(cast("Frame", event))
        if self._exchange.is_paused and protocol.state is State.OPEN:
            protocol.data_to_send()  # pongs that a client which does not read would have pile up
        self._flush()
        if protocol.state is not State.OPEN:
            end = protocol.close_rcvd or protocol.close_sent
            self._say_goodbye(end.code if end else 1006, end.reason if end else "")
        elif self._unread_bytes > UNREAD_BYTES or len(self._unread) > UNREAD_MESSAGES:
            self._hold()

    def go_away(self) -> None:
        """The replica leaves: ask the client to come again, elsewhere."""
        if self._protocol.state is State.OPEN:
            self._close(1012, "the function restarts")
            self._exchange.stop_in(TOLD_S)

    def lose(self) -> None:
        """The connection is gone, whoever closed it."""
        self._drop_timer()
        self._say_goodbye(1006, "")
        self._over.set()
        if not self._is_apps_end:
            self._exchange.stop_in(TOLD_S if self._was_told or self._listeners else NOTICE_S)

    # Frames.

    def _take(self, frame: Frame) -> None:
        if self._goodbye is not None or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._deliver(bytes(frame.data))
                return
        self._parts += frame.data
        if frame.fin:
            data, self._parts = bytes(self._parts), bytearray()
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        message: dict[str, object] = {"type": "websocket.receive"}
        if self._is_text:
            try:
                message["text"] = data.decode()
            except UnicodeDecodeError:
                self._protocol.fail(1007, "the text is not UTF-8")
                self._say_goodbye(1007, "the text is not UTF-8")
                return
        else:
            message["bytes"] = data
        self._unread.append((message, len(data)))
        self._unread_bytes += len(data)
        self._arrived.set()

    def _close(self, code: int, reason: str) -> None:
        """Send a close, if none was sent, and have the connection end within CLOSE_S."""
        if self._protocol.state is not State.OPEN or self._exchange.is_gone:
            return
        reason = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        self._protocol.send_close(code, reason)
        self._unread.clear()
        self._say_goodbye(code, reason)
        self._release()
        self._end_within(CLOSE_S)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data != SEND_EOF:
                self._exchange.send(data)
            elif self._protocol.close_rcvd is not None:
                self._end_within(CLOSE_S)
                self._exchange.transport.close()
            else:
                self._end_within(LINGER_S)

    # What is said to the app, and when its connection ends.

    def _say_goodbye(self, code: int, reason: str) -> None:
        """What receive() gives once all was read. The first word counts."""
        if self._goodbye is None:
            self._goodbye = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
        self._arrived.set()

    def _tell(self) -> None:
        if not self._was_told:
            self._was_told = True
            if self._exchange.is_gone and not self._is_apps_end:
                self._exchange.stop_in(TOLD_S)

    def _hold(self) -> None:
        """Read nothing until the app did."""
        if not self._is_held and not self._exchange.is_gone:
            self._is_held = True
            self._exchange.transport.pause_reading()
            self._watch()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._drop_timer()
            if not self._exchange.is_gone:
                self._exchange.transport.resume_reading()

    def _watch(self) -> None:
        """Ask whether the client left, which shows by itself only when the socket is read."""
        poll = select.poll()
        poll.register(self._exchange.transport.get_extra_info("socket").fileno(), 0)
        if poll.poll(0):
            self._exchange.transport.abort()
        else:
            self._set_timer(WATCH_S, self._watch)

    def _end_within(self, delay_s: float) -> None:
        self._set_timer(delay_s, self._exchange.transport.abort)

    def _set_timer(self, delay_s: float, then: Callable[[], None]) -> None:
        self._drop_timer()
        self._timer = self._loop.call_later(delay_s, then)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
