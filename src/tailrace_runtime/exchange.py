"""One connection of the asyncio server: reads requests, runs each call as a task, carries its reply.

How a call is stopped when its client leaves::

    at once      task.cancel()
    each 50 ms   task.cancel() again: Python 3.11's wait_for loses 6-17 % of cancels (measured)
    1.5 s        the replica retires: the call dies with the process

A generator that sits at its yield, because the client was slow or the write failed, is resumed with a
cancel pending, which meets it at its next await: ``aclose()`` there leaves the OpenAI SDK's connection
open (measured, reference of the clients, section 2).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from tailrace_runtime.call import Call
from tailrace_runtime.calls import GRACE_S
from tailrace_runtime.framing import Framing, Headers, fault_reply, health_reply, response_head

if TYPE_CHECKING:
    from tailrace_runtime.server_async import Server

RECANCEL_S = 0.05
# Bytes that may wait in the process for a slow client, over what the kernel's socket buffer holds.
HIGH_WATER_BYTES = 64 * 1024
# A handler that never waits lets the loop turn, and its client's leaving be seen, this often.
FAIR_ITEMS = 64
# What a generator may still give, without awaiting, after its client left (chunks its client buffered).
MAX_DISCARDED_ITEMS = 1000
ACLOSE_S = 1.0
# The edge limits heads to 64 KiB; only the edge talks to this socket.
MAX_HEAD_BYTES = 128 * 1024
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_HEALTH_PATHS = (b"/_/health", b"/_/ready")

Encode = Callable[[object], bytes]


class AsyncApp(Protocol):
    """Serves one call: starts the exchange's reply, writes it, finishes it. May raise anything."""

    async def __call__(self, call: Call, exchange: Exchange) -> None: ...


class Exchange(asyncio.Protocol):
    """A connection and, while one runs, its call.

    ``is_gone`` tells that the client left, ``is_answering`` that bytes of the reply may have gone out.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[bool] | None = None
        self._is_piece_answered = False
        self._timer: asyncio.TimerHandle | None = None
        self._stopping_since_s: float | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._early = b""
        self._is_paused = False
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
        self.is_answering = False

    # The connection, as asyncio tells of it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)
        self._fd = transport.get_extra_info("socket").fileno()
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            # The edge never pipelines, but it may see a reply's end, which a thread wrote, before this
            # loop does. While more waits than a head, nobody reads and the client's leaving goes unseen.
            self._early += data
            if not self.is_answering:
                self._is_kept = False  # it came before any answer: whoever pipelines is not served
            if len(self._early) > MAX_HEAD_BYTES:
                self._transport.pause_reading()
            return
        self._is_piece_answered = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._task is not None:
                self._lose()  # two requests in one piece: whoever pipelines is not served
                return
            if not self._is_piece_answered:
                self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def eof_received(self) -> None:
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # gone is gone
        self._server.connections.discard(self)
        self._lose()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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
        if path in _HEALTH_PATHS:
            self._answer_health()
            return
        call = Call(self._method, path, query, self._headers, b"".join(self._body))
        self._body = []
        self._server.calls.enter(self)
        self._task = self._loop.create_task(self._run(call))
        # Not the task's own last act: one that is cancelled before its first step does nothing at all.
        self._task.add_done_callback(functools.partial(self._end, call.id))

    def _answer_health(self) -> None:
        self._transport.write(health_reply(method=self._method))
        self._is_piece_answered = True
        if self._is_kept and not self._server.calls.is_leaving:
            self._reset()
        else:
            self._transport.close()

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
        if isinstance(error, Exception) or not self.is_gone:
            self._server.journal.failure(error)
        if self.is_gone:
            return False
        if self._framing is not None and self.is_begun:
            self._send(self._framing.fail())
            return False
        self._send(fault_reply(method=self._method))
        return True

    def _end(self, call_id: str, task: asyncio.Task[bool]) -> None:  # a call-back of the task
        is_whole = not task.cancelled() and task.exception() is None and task.result()
        self._task = None  # a task kept is a traceback kept is a model's connection kept
        self._stopping_since_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._server.journal.end(call_id)
        calls = self._server.calls
        calls.leave(self)
        if is_whole and not self.is_gone and not calls.is_leaving and self._is_kept:
            self._reset()
            self._go_on()
        else:
            self._transport.close()

    def _go_on(self) -> None:
        """Take the next request, which may be there already."""
        early, self._early = self._early, b""
        if early:
            self._transport.resume_reading()
            self.data_received(early)

    def close_idle(self) -> None:
        """Close the connection unless a call runs on it or a request is arriving."""
        if self._task is None and not self._url:
            self._transport.close()

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

    def announce(self) -> None:
        """Send the head now where it declares an event stream whose first event is yet to come.

        Raises:
            CancelledError: the client is gone, so nothing of the body need be made.
        """
        if self._framing is not None and self._framing.is_ahead and self._head:
            head, self._head = self._head, b""
            self._send(head)
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
            self._send(framed)

    def finish(self, data: bytes = b"") -> None:
        """Send the last data and the body's end. Raises ValueError: not the declared length."""
        assert self._framing is not None, "start comes first"
        end = self._framing.frame(data) + self._framing.finish()
        end, self._head = self._head + end, b""
        if end:
            self._send(end)
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
                if self._is_paused or not count % FAIR_ITEMS:
                    await self._wait_writable()
        except BaseException:
            await self._abandon(items)
            raise

    def lend(self) -> int:
        """A duplicate of the socket's descriptor for a thread to write to. The caller closes it.

        A duplicate, because the number of a closed descriptor may be another connection's.
        """
        return os.dup(self._fd)

    def settle(self, *, is_whole: bool) -> None:
        """The borrower of the descriptor is done; whether it sent a whole reply."""
        self._is_finished = is_whole

    def _send(self, data: bytes) -> None:
        if self.is_gone:
            return
        self.is_answering = True
        if not self._transport.get_write_buffer_size():
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
        self._transport.write(data)

    async def _wait_writable(self) -> None:
        if not self._is_paused:
            await asyncio.sleep(0)
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # The end of a call whose client left.

    def _lose(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self._transport.abort()
        self._stop()

    def _stop(self) -> None:
        """Cancel the call, again and again until it is over, and retire the replica if it never is."""
        if self._task is None or self._stopping_since_s is not None:
            return
        self._stopping_since_s = self._loop.time()
        self._cancel()

    def _cancel(self) -> None:
        if self._task is None or self._stopping_since_s is None:
            return
        self._task.cancel()
        if self._loop.time() - self._stopping_since_s > GRACE_S:
            self._server.retire(self)
        self._timer = self._loop.call_later(RECANCEL_S, self._cancel)

    async def _abandon(self, items: AsyncIterator[object]) -> None:
        """End items that may sit at their yield. Runs in the call's own task, which ends after it."""
        self._stop()
        with contextlib.suppress(BaseException):  # the cancel or the end: either way it is out of its read
            for _ in range(MAX_DISCARDED_ITEMS):
                if self._task is not None:
                    self._task.cancel()
                await anext(items)
            aclose = getattr(items, "aclose", None)
            if aclose is not None:
                await asyncio.wait_for(aclose(), ACLOSE_S)
