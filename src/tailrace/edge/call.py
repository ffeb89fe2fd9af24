"""One call on its way through the edge: from the client's head to the end of the function's answer.

    opened ──▶ waiting (no free place) ──▶ connecting ──▶ asked ──▶ answering ──▶ over
                  │ queue full: 429                    start: 504   │ idle, total, lost:
                  │ queue clock: 503                   lost: 502    │ error frame or cut
    client gone, in any state: the upstream request is aborted at once and nothing is sent

The path of a chunk is `Upstream.data_received`, `Stream.send`, `Outbox.put`: no task, no timer, no log.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

from tailrace.edge import ends
from tailrace.edge.call_id import new_call_id
from tailrace.edge.clocks import Clocks, Marks, expiry
from tailrace.edge.heads import Reply, Request, early_head, tunnel_head
from tailrace.edge.plane import Edge, Entry
from tailrace.edge.pool import Upstream
from tailrace.edge.replies import error_reply
from tailrace.edge.stream import Stream
from tailrace.edge.tunnel import Tunnel
from tailrace.edge.upload import Upload
from tailrace.errors import NotFound, TailraceError
from tailrace.functions.table import Function, Replica, Waiter
from tailrace.provider.contract import Address
from tailrace.wire.heads import ResponseHead

# A replica that refuses a connection is usually dead, and its end is told within milliseconds.
SEEK_AGAIN_S = 0.05
# What a call is logged and counted with whose client left before a status was sent. Source: nginx.
CLIENT_LEFT = 499
_NO_CLOCKS = Clocks()


class Client(Protocol):
    """What a call asks of the connection it answers on."""

    keep_alive: bool
    transport: asyncio.Transport

    @property
    def is_paused(self) -> bool:
        """Whether its upload is held back."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def look_by(self, at: float) -> None:
        """Look at the call's clocks at this moment at the latest."""

    def call_over(self, call: Call) -> None:
        """The answer is written; the connection may take its next request, or close."""

    def cut(self, *, with_reset: bool) -> None:
        """End the connection so that no client can take the body for complete."""

    def hand_over(self) -> bytes:
        """Give the transport away; the bytes that came after the request."""


def _no_stream(_body: bytes, _whole: bytes | None) -> None:
    raise AssertionError("a body came before its head")


class Call:
    """Carries one request and its answer: the client calls ``on_request_*``, the upstream the rest."""

    __slots__ = (
        "_began_at", "_bytes", "_client", "_clocks", "_connecting", "_edge", "_entry", "_function", "_is_early",
        "_is_full", "_replica", "_replied_at", "_request", "_retry", "_start_ns", "_status", "_stream", "_taken_at",
        "_upload", "_upstream", "_waiter", "_wants_early", "call_id", "is_over", "on_reply_body",
    )  # fmt: skip

    def __init__(self, edge: Edge, client: Client, request: Request, now: float) -> None:
        self._edge = edge
        self._client = client
        self._request = request
        self._began_at = now
        self._taken_at = self._replied_at = math.inf
        self._clocks = _NO_CLOCKS
        self._entry: Entry | None = None
        self._function: Function | None = None
        self._replica: Replica | None = None
        self._upstream: Upstream | None = None
        self._upload: Upload | None = None
        self._stream: Stream | None = None
        self._waiter: Waiter | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_early = self._wants_early = self._is_full = self.is_over = False
        self._status = CLIENT_LEFT
        self._bytes = self._start_ns = 0
        self.call_id = b""
        # A stream's own method once there is one, so that a chunk's path is a call shorter.
        self.on_reply_body: Callable[[bytes, bytes | None], None] = _no_stream

    # The way in.

    def open(self) -> None:
        """Begin: find the function, a replica, a connection; or answer why not."""
        request, edge = self._request, self._edge
        if request.has_body:
            is_chunked = request.head.is_chunked
            self._upload = Upload(edge.outbox, self._began_at, is_chunked=is_chunked)
        if request.label is None:
            stall_s = edge.settings.stall_timeout_s
            self._clocks = Clocks(stall_s=stall_s, look_s=stall_s)
            self._client.look_by(self._began_at + stall_s)
            self._connect(edge.control)
            return
        self.call_id = new_call_id()
        self._start_ns = time.time_ns()
        function = edge.table.find(request.label)
        if function is None:
            self._fail(ends.not_found(edge.table, request.label), ends.REFUSED)
            return
        self._function = function
        entry = self._entry = edge.entry(function)
        entry.numbers.started += 1
        edge.open_calls += 1
        clocks = entry.clocks
        if request.timeout_s:
            clocks = clocks.shortened(request.timeout_s)
        self._clocks = clocks
        self._client.look_by(self._began_at + clocks.look_s)
        function.invocations += 1
        if request.refusal is not None or edge.is_overloaded:
            self._fail(request.refusal or ends.overloaded(), ends.REFUSED)
            return
        early = entry.options.has_early_head
        self._wants_early = (
            request.wants_events if early is None else early and request.head.method != b"HEAD"
        )
        self._seek_replica(function)

    def _seek_replica(self, function: Function) -> None:
        self._retry = None
        replica = None if function.waiting or function.is_removed else function.lease()
        limit = self._edge.settings.queue_limit
        if replica is not None or function.is_removed:
            self._on_replica(replica)
        elif len(function.waiting) >= limit:
            self._fail(ends.queue_full(function, limit), ends.REFUSED)
        else:
            self._waiter = function.wait(self._on_replica)
            self._tell_status("queued")

    def _on_replica(self, replica: Replica | None) -> None:
        self._waiter = None
        if replica is None:
            self._fail(NotFound("the function was removed while the call waited for it"), ends.REFUSED)
            return
        assert self._entry is not None
        self._entry.numbers.in_flight += 1
        self._replica = replica
        self._connect(replica.address)

    def _connect(self, address: Address) -> None:
        upstream = self._edge.pool.take(address)
        if upstream is not None:
            self._on_upstream(upstream)
        else:
            self._connecting = self._edge.spawn(self._make_connection(address))

    async def _make_connection(self, address: Address) -> None:
        try:
            upstream = await self._edge.pool.connect(address)
        except OSError as error:
            self._connecting = None
            self._on_no_connection(error)
            return
        self._connecting = None
        self._on_upstream(upstream)

    def _on_no_connection(self, error: OSError) -> None:
        """The replica did not take the call: it is dying or full. Seek one until the queue clock ends."""
        function = self._function
        if function is None:
            self._fail(ends.no_control_plane(error), ends.ERROR_PLATFORM)
            return
        self._give_back_place()
        self._retry = self._edge.loop.call_later(SEEK_AGAIN_S, self._seek_replica, function)

    def _on_upstream(self, upstream: Upstream) -> None:
        request, edge, upload = self._request, self._edge, self._upload
        self._upstream = upstream
        self._taken_at = now = edge.clock()
        upstream.begin(self, request.head.method)
        if request.label is None:
            head = request.prefix + request.framing
        else:
            ids = request.prefix, self.call_id, self._start_ns, request.framing
            head = b"%bx-call-id: %b\r\nx-start-time: %d\r\n%b" % ids
        if upload is not None:
            head += upload.attach(upstream.transport, now)
        edge.outbox.put(upstream.transport, head)
        if self._wants_early:
            self._tell_status("starting")
        if upload is not None and not upload.is_complete:
            if request.head.expects_continue:
                self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._client.resume_reading()

    def on_request_body(self, body: bytes, *, is_last: bool) -> None:
        """The next piece of the request's body; ``is_last`` also for an empty one."""
        upload = self._upload
        assert upload is not None
        upload.take(body, self._edge.clock(), is_last=is_last)
        if upload.is_full:
            self._client.pause_reading()

    @property
    def _is_request_sent(self) -> bool:
        return self._upload is None or self._upload.is_complete

    # The way out.

    def _head_to_client(self, reply: Reply, *, has_body: bool, is_chunked: bool) -> bytes:
        connection = b"" if self._request.head.is_http11 else b"Connection: keep-alive\r\n"
        if not self._client.keep_alive:
            connection = b"Connection: close\r\n"
        date = b"" if reply.has_date else self._edge.date()
        if not self.call_id:
            prefix = reply.prefix(has_body, is_chunked, False)
            return b"%b%b%b\r\n" % (prefix, date, connection)
        prefix = reply.prefix(has_body, is_chunked, True)
        lines = prefix, date, self.call_id, self._start_ns, connection
        return b"%b%bX-Call-Id: %b\r\nX-Start-Time: %d\r\n%b\r\n" % lines

    def on_reply_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once, as small ones come."""
        if reply.is_fault or self._is_early:
            self._refuse_reply(reply)
            return
        head = reply.head
        if not self._is_request_sent:
            self._client.keep_alive = False
        has_body = head.has_body(self._request.head.method)
        self._client.write(self._head_to_client(reply, has_body=has_body, is_chunked=False) + body)
        self._status = head.status
        self._bytes = len(body)
        self._finish()

    def on_reply(self, reply: Reply) -> None:
        """The head: choose how the body will be told. It is sent with the first byte, or on its clock."""
        head, is_http11 = reply.head, self._request.head.is_http11
        self._replied_at = self._edge.clock()
        is_unsized = head.content_length is None
        is_stream = is_unsized and head.content_type.lower().startswith(b"text/event-stream")
        stream = self._stream
        if reply.is_fault or (self._is_early and not (is_stream and head.status == 200)):
            self._refuse_reply(reply)
            return
        if stream is None:
            if not self._is_request_sent or (is_unsized and not is_http11):
                self._client.keep_alive = False
            is_chunked = is_unsized and is_http11
            first = self._head_to_client(reply, has_body=True, is_chunked=is_chunked)
            stream = self._begin_stream(first, is_chunked=is_chunked)
            self._status = head.status
        stream.read_dialect(head, self._entry.options.dialect if self._entry else None)
        self.on_reply_body = stream.send
        if not self._clocks.early_head_s:
            stream.send_head()

    def _begin_stream(self, first: bytes, *, is_chunked: bool) -> Stream:
        numbers = self._entry.numbers if self._entry else None
        if numbers is not None:
            numbers.open_streams += 1
        edge, transport = self._edge, self._client.transport
        stream = self._stream = Stream(
            edge.outbox, transport, first, is_chunked=is_chunked, clock=edge.clock, numbers=numbers
        )
        return stream

    def _send_early_head(self) -> None:
        """The caller waits for an event stream: let it have the head of one, and heartbeats from now on."""
        is_http11 = self._request.head.is_http11
        keep_alive = self._client.keep_alive = self._client.keep_alive and is_http11
        first = early_head(self._call_lines(), self._edge.date(), is_chunked=is_http11, keep_alive=keep_alive)
        stream = self._begin_stream(first, is_chunked=is_http11)
        stream.await_dialect(self._entry.options.dialect if self._entry else None)
        self._is_early = True
        self._status = 200
        stream.last_beat_at = self._edge.clock()
        stream.send_head()

    def _call_lines(self) -> bytes:
        return b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (self.call_id, self._start_ns)

    def _tell_status(self, state: str) -> None:
        if not self._wants_early or self._entry is None:
            return
        has_status = self._entry.options.has_status
        if self._stream is None and (has_status or not self._clocks.early_head_s):
            self._send_early_head()
        if has_status and self._stream is not None:
            self._stream.send_status(state)

    def _refuse_reply(self, reply: Reply) -> None:
        """The function failed, or answered what can not follow the head that was sent."""
        error = ends.handler_failed() if reply.is_fault else ends.not_a_stream(reply.head)
        self._fail(error, ends.ERROR_FUNCTION)

    def on_reply_end(self, *, is_exact: bool) -> None:
        """The function ended its answer itself."""
        assert self._stream is not None
        self._stream.end()
        if not is_exact:
            self._client.keep_alive = False
        self._finish()

    def _finish(self) -> None:
        upstream = self._upstream
        is_sent = self._is_request_sent
        self._leave(ends.DONE)
        if upstream is not None:
            if is_sent:
                self._edge.pool.give_back(upstream)
            else:
                upstream.abort()
        self._client.call_over(self)

    def on_upstream_lost(self, why: str, *, is_fault: bool) -> None:
        """The replica broke the connection: a real status if nothing was sent, else a truthful end."""
        self._upstream = None
        if is_fault:
            self._fail(ends.handler_failed(), ends.ERROR_FUNCTION)
        else:
            self._fail(ends.replica_failed(why, is_begun=self._is_head_sent), ends.REPLICA_DIED)

    @property
    def _is_head_sent(self) -> bool:
        return self._stream is not None and self._stream.is_head_sent

    def _fail(self, error: TailraceError, reason: str) -> None:
        """End with an error of ours: a real status while nothing was sent, else as the stream can tell it."""
        upstream, stream, client = self._upstream, self._stream, self._client
        is_begun, is_sent, call_id = self._is_head_sent, self._is_request_sent, self.call_id.decode()
        if not is_begun:
            self._status = error.http_status
        self._leave(reason)
        if upstream is not None:
            upstream.abort()
        if not is_begun:
            client.keep_alive = client.keep_alive and is_sent
            client.write(error_reply(error, self._request, call_id, self._edge.date(), client.keep_alive))
            client.call_over(self)
        elif stream is not None and stream.fail(error.code, error.message, call_id):
            client.keep_alive = False
            client.call_over(self)
        else:
            client.cut(with_reset=stream is None or not stream.is_chunked)

    def end(self, error: TailraceError, reason: str) -> None:
        """End the call from outside: a clock, a drain, a body that broke a limit or its coding."""
        if not self.is_over:
            self._fail(error, reason)

    def on_client_gone(self) -> None:
        """The client left: the replica is told by a closed connection, whatever the call was doing."""
        if self.is_over:
            return
        upstream = self._upstream
        self._leave(ends.CLIENT_GONE)
        if upstream is not None:
            upstream.abort()

    # A function that becomes a websocket.

    def on_upgraded(self, head: ResponseHead, first: bytes) -> None:
        """The function answered 101: from here on both connections are one pipe."""
        upstream, client = self._upstream, self._client
        assert upstream is not None
        if not self._request.head.wants_websocket or self._is_early:
            self._fail(ends.unasked_upgrade(), ends.ERROR_FUNCTION)
            return
        client.write(tunnel_head(head, self._call_lines()))
        self._edge.outbox.flush()
        self._status = 101
        self._upstream = None
        self._edge.pool.hand_over(upstream)
        tunnel = Tunnel(self._edge, client.transport, upstream.transport, self._clocks, self._on_tunnel_over)
        tunnel.begin(to_upstream=client.hand_over(), to_client=first)

    def _on_tunnel_over(self, reason: str, sent_bytes: int) -> None:
        self._bytes = sent_bytes
        self._leave(reason)

    # Clocks.

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again."""
        clocks, stream, upload = self._clocks, self._stream, self._upload
        last_at = stream.last_at if stream is not None else math.inf
        if self._is_full and last_at != math.inf:
            last_at = now  # the function is held back: its silence is not its own
        asked_at = self._taken_at if upload is None else upload.passed_at
        marks = Marks(self._began_at, self._taken_at, asked_at, last_at)
        at, name = expiry(clocks, marks, is_request_complete=self._is_request_sent)
        if now >= at:
            assert self._function is not None
            self._fail(ends.expired(name, clocks, self._function), ends.TIMEOUT + name)
            return math.inf
        if upload is not None and not upload.is_complete and not self._client.is_paused:
            stalls_at = upload.read_at + clocks.stall_s
            if now >= stalls_at:
                self._fail(ends.stalled(clocks.stall_s), ends.TIMEOUT + "read")
                return math.inf
            at = min(at, stalls_at)
        return min(at, now + clocks.look_s, self._show_life(now))

    def _show_life(self, now: float) -> float:
        """Send a head that was held long enough, or a heartbeat; when the next is due."""
        stream, hold_s = self._stream, self._clocks.early_head_s
        if stream is None:
            at = self._began_at + hold_s if self._wants_early else math.inf
            if now < at:
                return at
            self._send_early_head()
            return now + self._clocks.heartbeat_s
        if not stream.is_head_sent:
            at = self._replied_at + hold_s
            if now < at:
                return at
            stream.last_beat_at = now
            stream.send_head()
        return math.inf if self._is_full else stream.beat_by(now, self._clocks.heartbeat_s)

    # Giving everything back.

    def _give_back_place(self) -> None:
        replica, self._replica = self._replica, None
        if replica is not None:
            assert self._entry is not None
            self._entry.numbers.in_flight -= 1
            replica.release()

    def _leave(self, reason: str) -> None:
        """Give everything back, and tell how the call ended. Every end comes through here, once."""
        self.is_over = True
        self._upstream = None
        if self._upload is not None:
            self._upload.drop()
        if self._waiter is not None and self._function is not None:
            self._function.leave(self._waiter)
            self._waiter = None
        if self._retry is not None:
            self._retry.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._replica is not None:
            self._give_back_place()
        if self.call_id:
            self._account(reason)

    def _account(self, reason: str) -> None:
        edge, entry, stream, request = self._edge, self._entry, self._stream, self._request
        now, began_at = edge.clock(), self._began_at
        first_at = now if reason == ends.DONE else math.inf
        if stream is not None:
            first_at = stream.first_content_at
            self._bytes = stream.sent_bytes
        if entry is not None:
            numbers = entry.numbers
            if stream is not None:
                numbers.open_streams -= 1
            numbers.end(self._status, reason, now - began_at)
            if first_at != math.inf:
                numbers.first_content.observe(first_at - began_at)
            edge.call_ends()
        if edge.log is not None:
            edge.log.write(
                call_id=self.call_id,
                function=entry.label if entry is not None else request.label or b"",
                method=request.head.method,
                status=self._status,
                end_reason=reason,
                bytes_out=self._bytes,
                first_byte_s=first_at - began_at if first_at != math.inf else None,
                total_s=now - began_at,
                client=request.client,
                client_call_id=request.client_id,
            )

    # Backpressure, both ways.

    def on_upstream_full(self) -> None:
        if not self._is_request_sent:
            self._client.pause_reading()

    def on_upstream_drained(self) -> None:
        self._client.resume_reading()

    def on_client_full(self) -> None:
        self._is_full = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        self._is_full = False
        if self._stream is not None and self._stream.last_at != math.inf:
            self._stream.last_at = self._edge.clock()
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def held_bytes(self) -> int:
        """Bytes of the request that wait here or for the replica to read them."""
        return 0 if self._upload is None else self._upload.held_bytes()
