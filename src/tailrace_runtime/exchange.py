"""One connection of the asyncio server: reads requests, runs each call as a task, carries its reply."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from tailrace_runtime.call import Call
from tailrace_runtime.calls import Told
from tailrace_runtime.framing import Framing, Headers, fault_reply, response_head
from tailrace_runtime.stop import Stopper, abandon

if TYPE_CHECKING:
    from tailrace_runtime.server_async import Server

# Bytes that may wait in the process for a slow client, over what the kernel's socket buffer holds.
HIGH_WATER_BYTES = 64 * 1024
# A handler that never waits lets the loop turn, and its client's leaving be seen, this often.
FAIR_ITEMS = 64
# The edge limits heads to 64 KiB; only the edge talks to this socket.
MAX_HEAD_BYTES = 128 * 1024
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_HEALTH_PATHS = (b"/_/health", b"/_/ready")

Encode = Callable[[object], bytes]


class AsyncApp(Protocol):
    """Serves one call: starts the exchange's reply, writes it, finishes it. May raise anything."""

    async def __call__(self, call: Call, exchange: Exchange) -> None: ...


class Tunnel(Protocol):
    """Has a connection that switched to another protocol."""

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""

    def go_away(self) -> None:
        """Begin to end: the replica leaves."""


class Exchange(asyncio.Protocol):
    """A connection and, while one runs, its call.

    ``is_gone`` tells that the client left, ``is_answering`` that bytes of the reply may have gone out,
    ``status`` what it was told,
    ``is_websocket`` that the client asks for one. ``transport`` is a tunnel's to pause and to close.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[bool] | None = None
        self._is_piece_answered = False
        self._stopper: Stopper | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._early = b""
        self.is_paused = False
        self.is_gone = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._method = ""
        self._is_kept = False
        self._head = b""
        self._framing: Framing | None = None
        self._is_finished = False
        self._tunnel: Tunnel | None = None
        self._on_gone: Callable[[], None] | None = None
        self.status = 0
        self.is_answering = False
        self.is_websocket = False

    # The connection, as asyncio tells of it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)
        self._fd = transport.get_extra_info("socket").fileno()
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        if self._task is not None:
            # The edge never pipelines, but it may see a reply's end, which a thread wrote, before this
            # loop does. While more waits than a head, nobody reads and the client's leaving goes unseen.
            self._early += data
            if not self.is_answering:
                self._is_kept = False  # it came before any answer: whoever pipelines is not served
            if len(self._early) > MAX_HEAD_BYTES:
                self.transport.pause_reading()
            return
        self._is_piece_answered = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._task is not None:
                self._lose()  # two requests in one piece: whoever pipelines is not served
                return
            if not self._is_piece_answered:
                self.transport.write(_BAD_REQUEST)
            self.transport.close()

    def eof_received(self) -> None:
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # gone is gone
        self._server.connections.discard(self)
        self._lose()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    # The request, as the parser tells of it.

    def on_message_begin(self) -> None:
        if self._task is not None or self._is_piece_answered:
            raise ValueError("a request came before the one before it was answered")

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value.strip(b" \t")))  # llhttp leaves the blanks after it
        self._count(len(name) + len(value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.partition(b"?")
        self._method = self._parser.get_method().decode("latin-1")
        self._is_kept = self._parser.should_keep_alive()  # the parser forgets it after this call-back
        if path in _HEALTH_PATHS and (health := self._server.probe(path, self._method)) is not None:
            self._answer_health(health)
            return
        call = Call(self._method, path, query, self._headers, b"".join(self._body))
        self._body = []
        self._server.calls.enter(self)
        self._task = self._loop.create_task(self._run(call))
        self._stopper = Stopper(self._task, functools.partial(self._server.retire, self))
        # Not the task's own last act: one that is cancelled before its first step does nothing at all.
        self._task.add_done_callback(functools.partial(self._end, call.id))

    def _take_upgrade(self, early: bytes) -> None:
        """The request asks for another protocol: it is its connection's last, switched to or not."""
        asked = [value.lower() for name, value in self._headers if name.lower() == b"upgrade"]
        if self._task is None or self._method != "GET" or asked != [b"websocket"]:
            self._lose()
        self.is_websocket = True
        self._is_kept = False
        self._early = early

    def _answer_health(self, reply: bytes) -> None:
        self.transport.write(reply)
        self._is_piece_answered = True
        if self._is_kept and not self._server.calls.is_leaving:
            self._reset()
        else:
            self.transport.close()

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError(f"the head is over {MAX_HEAD_BYTES} bytes")

    # The call.

    async def _run(self, call: Call) -> bool:
        """Serve the call; whether its reply is whole."""
        call_id = call.id
        self._server.journal.begin(call_id)
        try:
            await self._server.app(call, self)
        except BaseException as error:
            return self._answer_failure(error)
        return self._is_finished

    def _answer_failure(self, error: BaseException) -> bool:
        if not isinstance(error, Told) and (isinstance(error, Exception) or not self.is_gone):
            self._server.journal.failure(error)
        if self.is_gone:
            return False
        if self._framing is not None and self.is_begun:
            self.send(self._framing.fail())
            return False
        self.send(fault_reply(method=self._method))
        return True

    def _end(self, call_id: str, task: asyncio.Task[bool]) -> None:  # a call-back of the task
        is_whole = not task.cancelled() and task.exception() is None and task.result()
        self._task = None  # a task kept is a traceback kept is a model's connection kept
        if self._stopper is not None:
            self._stopper.close()
            self._stopper = None
        self._server.journal.end(call_id)
        calls = self._server.calls
        calls.leave(self)
        if is_whole and not self.is_gone and not calls.is_leaving and self._is_kept:
            self._reset()
            self._go_on()
        else:
            self.transport.close()

    def _go_on(self) -> None:
        """Take the next request, which may be there already."""
        early, self._early = self._early, b""
        if early:
            self.transport.resume_reading()
            self.data_received(early)

    def close_idle(self) -> None:
        """Close the connection unless a call runs on it or a request is arriving; a tunnel begins to end."""
        if self._tunnel is not None:
            self._tunnel.go_away()
        elif self._task is None and not self._url:
            self.transport.close()

    # The reply.

    @property
    def is_started(self) -> bool:
        """Whether the reply's head is decided."""
        return self._framing is not None

    @property
    def is_begun(self) -> bool:
        """Whether bytes of the reply went out."""
        return self._framing is not None and not self._head

    def start(self, line: str, headers: Headers) -> None:
        """Decide the reply's head; it goes out with the first data. Raises ValueError: see framing."""
        self._head, self._framing = response_head(line, headers, method=self._method, length=None)
        self.status = int(line[:3])

    def forget_head(self) -> None:
        """Take back a head that was decided and has not gone out."""
        assert not self.is_begun, "the client has it"
        self._head, self._framing = b"", None

    def announce(self) -> None:
        """Send the head now where it declares an event stream whose first event is yet to come.

        Raises:
            CancelledError: the client is gone, so nothing of the body need be made.
        """
        if self._framing is not None and self._framing.is_ahead and self._head:
            head, self._head = self._head, b""
            self.send(head)
        if self.is_gone:
            raise asyncio.CancelledError

    def write(self, data: bytes) -> None:
        """Send data of the body now, as far as the kernel takes it; the rest waits in the transport.

        Raises:
            ValueError: more than the declared length.
        """
        assert self._framing is not None, "start comes first"
        framed = self._framing.frame(data)
        if self._head:
            framed = self._head + framed
            self._head = b""
        if framed:
            self.send(framed)

    def finish(self, data: bytes = b"") -> None:
        """Send the last data and the body's end. Raises ValueError: not the declared length."""
        assert self._framing is not None, "start comes first"
        end = self._framing.frame(data) + self._framing.finish()
        end, self._head = self._head + end, b""
        if end:
            self.send(end)
        self._is_finished = True

    async def relay(self, items: AsyncIterator[object], begin: Callable[[object], Encode]) -> None:
        """Write each item when it exists; wait while the client is slow.

        Args:
            begin: Called with the first item; starts the reply and gives what encodes the items.
        Closes: items, on every path.
        """
        encode: Encode | None = None
        count = 0
        try:
            async for item in items:
                if self.is_gone:
                    raise asyncio.CancelledError
                if encode is None:
                    encode = begin(item)
                self.write(encode(item))
                count += 1
                if self.is_paused or not count % FAIR_ITEMS:
                    await self.wait_writable()
        except BaseException:
            if self._stopper is not None:
                await abandon(items, self._stopper)
            raise

    def switch(self, head: bytes, tunnel: Tunnel) -> None:
        """Answer with head, and hand the connection over: the tunnel gets what comes from now on."""
        self._framing = Framing(0, is_bodiless=True, is_events=False)
        self._tunnel = tunnel
        self.send(head)
        early, self._early = self._early, b""
        if early:
            self.transport.resume_reading()
            tunnel.feed(early)
        if self._server.calls.is_leaving:
            tunnel.go_away()

    def linger(self, task: asyncio.Task[None]) -> None:
        """Count what goes on after the reply as a running call: the replica does not leave before it."""
        calls = self._server.calls
        calls.enter(task)
        task.add_done_callback(calls.leave)

    def lend(self) -> int:
        """A duplicate of the socket's descriptor for a thread to write to. The caller closes it.

        A duplicate, because the number of a closed descriptor may be another connection's.
        """
        return os.dup(self._fd)

    def settle(self, *, is_whole: bool) -> None:
        """The borrower of the descriptor is done; whether it sent a whole reply."""
        self._is_finished = is_whole

    def send(self, data: bytes) -> None:
        """Send bytes as they are: now, as far as the kernel takes them. Nothing, once the client is gone."""
        if self.is_gone:
            return
        self.is_answering = True
        if not self.transport.get_write_buffer_size():
            # Written here and not by the transport, which waits for the loop's next turn: the handler
            # may compute for long before it awaits again.
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lose()
                return
            if sent == len(data):
                return
            data = data[sent:]
        self.transport.write(data)

    async def wait_writable(self) -> None:
        """Let the loop turn; while the client is slow, wait. Returns at once when it is gone."""
        if not self.is_paused:
            await asyncio.sleep(0)
            return
        if self._waiter is None:
            self._waiter = self._loop.create_future()
        await asyncio.shield(self._waiter)  # several tasks of one call may wait

    # The end of a call whose client left.

    def _lose(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self.transport.abort()
        self.resume_writing()
        if self._stopper is not None:
            (self._on_gone or self._stopper.stop)()

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when the client leaves, instead of stopping this call: it says when, by `stop_in`."""
        self._on_gone = then

    def stop_in(self, delay_s: float) -> None:
        """Stop the call after delay_s: the last word counts, until it is being stopped."""
        if self._stopper is not None:
            self._stopper.stop_in(delay_s)
