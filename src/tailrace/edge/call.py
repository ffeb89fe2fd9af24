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
from tailrace.errors import NotFound, Overloaded, ReplicaFailed, TailraceError
from tailrace.functions.table import Function, Replica, Waiter
from tailrace.provider.contract import Address
from tailrace.wire.heads import ResponseHead

# Request body bytes held while a call waits; beyond it the client is not read.
HELD_BODY_BYTES = 64 * 1024
# A replica that refuses a connection is usually dead, and its end is told within milliseconds.
SEEK_AGAIN_S = 0.05
# What a call is logged and counted with whose client left before a status was sent. Source: nginx.
CLIENT_LEFT = 499


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


class Call:
    """Carries one request and its answer: the client calls ``on_request_*``, the upstream the rest.

    What is the same for most calls stands on the class: a call that needs no more than a place and an
    answer sets a handful of attributes.
    """

    is_over = False
    call_id = b""
    _clocks = Clocks()
    _entry: Entry | None = None
    _function: Function | None = None
    _replica: Replica | None = None
    _upstream: Upstream | None = None
    _waiter: Waiter | None = None
    _retry: asyncio.TimerHandle | None = None
    _connecting: asyncio.Task[None] | None = None
    _stream: Stream | None = None
    _tunnel: Tunnel | None = None
    _is_early = False
    _wants_early = False
    _is_request_sent = False
    _is_client_full = False
    _held: list[bytes] | None = None
    _held_bytes = 0
    _taken_at = _asked_at = _read_at = _answered_at = math.inf
    _status = CLIENT_LEFT
    _bytes = 0
    _start_ns = 0

    def __init__(self, edge: Edge, client: Client, request: Request, now: float) -> None:
        self._edge = edge
        self._client = client
        self._request = request
        self._began_at = now
        self.on_reply_body: Callable[[bytes, bytes | None], None] = self._on_no_stream

    # The way in.

    def open(self) -> None:
        """Begin: find the function, a replica, a connection; or answer why not."""
        request, edge = self._request, self._edge
        if request.label is None:
            self._clocks = Clocks(stall_s=edge.settings.stall_timeout_s, look_s=edge.settings.stall_timeout_s)
            self._client.look_by(self._began_at + self._clocks.look_s)
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
        edge.call_begins()
        clocks = entry.clocks
        self._clocks = clocks = clocks.shortened(request.timeout_s) if request.timeout_s else clocks
        self._client.look_by(self._began_at + clocks.look_s)
        function.invocations += 1
        if request.refusal is not None or edge.is_overloaded:
            held = Overloaded("the gateway holds as many bytes for running calls as it may (buffer_limit)")
            self._fail(request.refusal or held, ends.REFUSED)
            return
        early = entry.options.has_early_head
        self._wants_early = (
            request.wants_events if early is None else early and request.head.method != b"HEAD"
        )
        self._seek_replica()

    def _seek_replica(self) -> None:
        function = self._function
        assert function is not None
        self._retry = None
        replica = None if function.waiting or function.is_removed else function.lease()
        if replica is not None:
            self._on_replica(replica)
        elif function.is_removed:
            self._on_replica(None)
        elif len(function.waiting) >= self._edge.settings.queue_limit:
            self._fail(ends.queue_full(function, self._edge.settings.queue_limit), ends.REFUSED)
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
        if self._replica is None:
            self._fail(
                ReplicaFailed(f"the control plane does not accept connections ({error})"), ends.ERROR_PLATFORM
            )
            return
        self._give_back_place()
        self._retry = self._edge.loop.call_later(SEEK_AGAIN_S, self._seek_replica)

    def _on_upstream(self, upstream: Upstream) -> None:
        request, edge = self._request, self._edge
        self._upstream = upstream
        self._taken_at = self._asked_at = edge.clock()
        upstream.begin(self, request.head.method)
        if request.label is None:
            head = request.prefix + request.framing
        else:
            ids = request.prefix, self.call_id, self._start_ns, request.framing
            head = b"%bx-call-id: %b\r\nx-start-time: %d\r\n%b" % ids
        if self._held is not None:
            head = b"".join((head, *self._held))
            self._held = None
        edge.outbox.put(upstream.transport, head)
        self._tell_status("starting")
        if not self._is_request_sent:
            if request.head.expects_continue:
                self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._client.resume_reading()

    def on_request_body(self, body: bytes, *, is_last: bool) -> None:
        """The next piece of the request's body; ``is_last`` also for an empty one."""
        self._read_at = self._edge.clock()
        if self._request.head.is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = framed + b"0\r\n\r\n" if is_last else framed
        if is_last:
            self._is_request_sent = True
        if self._upstream is not None:
            self._asked_at = self._read_at
            self._edge.outbox.put(self._upstream.transport, body)
            return
        held = self._held = self._held or []
        held.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > HELD_BODY_BYTES and not is_last:
            self._client.pause_reading()

    def on_no_request_body(self) -> None:
        """The request has no body: its head was all of it."""
        self._is_request_sent = True

    # The way out.

    def _call_lines(self) -> bytes:
        if not self.call_id:
            return b""
        return b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (self.call_id, self._start_ns)

    def _head_to_client(self, reply: Reply, *, has_body: bool, is_chunked: bool) -> bytes:
        client, head = self._client, self._request.head
        date = b"" if reply.has_date else self._edge.date()
        connection = b"" if head.is_http11 else b"Connection: keep-alive\r\n"
        if not client.keep_alive:
            connection = b"Connection: close\r\n"
        prefix = reply.prefix(has_body=has_body, is_chunked=is_chunked, is_call=bool(self.call_id))
        return b"%b%b%b%b\r\n" % (prefix, date, self._call_lines(), connection)

    def on_reply_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once, as small ones come."""
        if reply.is_fault or self._is_early:
            self._refuse_reply(reply)
            return
        client, head = self._client, self._request.head
        has_body = reply.head.has_body(head.method)
        if not self._is_request_sent:
            client.keep_alive = False
        client.write(self._head_to_client(reply, has_body=has_body, is_chunked=False) + body)
        self._status = reply.head.status
        self._bytes = len(body)
        self._finish()

    def on_reply(self, reply: Reply) -> None:
        """The head: choose how the body will be told. It is sent with the first byte, or on its clock."""
        head = reply.head
        self._answered_at = self._edge.clock()
        is_unsized = head.content_length is None
        is_stream = is_unsized and head.content_type.lower().startswith(b"text/event-stream")
        if reply.is_fault or (self._is_early and not (is_stream and head.status == 200)):
            self._refuse_reply(reply)
            return
        wished = self._entry.options.dialect if self._entry else None
        if self._is_early and self._stream is not None:
            self._stream.read_dialect(head, wished)
            self.on_reply_body = self._stream.send
            return
        is_http11 = self._request.head.is_http11
        if not self._is_request_sent or (is_unsized and not is_http11):
            self._client.keep_alive = False
        is_chunked = is_unsized and is_http11
        first = self._head_to_client(reply, has_body=True, is_chunked=is_chunked)
        stream = self._begin_stream(first, is_chunked=is_chunked)
        stream.read_dialect(head, wished)
        self._status = head.status
        self.on_reply_body = stream.send
        if not self._edge.settings.early_head_s:
            stream.send_head()

    def _begin_stream(self, first: bytes, *, is_chunked: bool) -> Stream:
        numbers = self._entry.numbers if self._entry else None
        if numbers is not None:
            numbers.open_streams += 1
        edge = self._edge
        stream = self._stream = Stream(
            edge.outbox,
            self._client.transport,
            first,
            is_chunked=is_chunked,
            clock=edge.clock,
            numbers=numbers,
        )
        return stream

    def _on_no_stream(self, _body: bytes, _whole: bytes | None) -> None:
        raise AssertionError("a body came before its head")

    def _send_early_head(self) -> None:
        """The caller waits for an event stream: let it have the head of one, and heartbeats from now on."""
        is_http11 = self._request.head.is_http11
        if not is_http11 or self._edge.is_draining:
            self._client.keep_alive = False
        first = early_head(
            self._call_lines(), self._edge.date(), is_chunked=is_http11, keep_alive=self._client.keep_alive
        )
        stream = self._begin_stream(first, is_chunked=is_http11)
        stream.await_dialect(self._entry.options.dialect if self._entry else None)
        self._is_early = True
        self._status = 200
        stream.last_beat_at = self._edge.clock()
        stream.send_head()

    def _tell_status(self, state: str) -> None:
        if not self._wants_early:
            return
        has_status = self._entry is not None and self._entry.options.has_status
        if self._stream is None and (has_status or not self._edge.settings.early_head_s):
            self._send_early_head()
        if has_status and self._stream is not None:
            self._stream.send_status(state)

    def _refuse_reply(self, reply: Reply) -> None:
        """The function failed, or answered what can not follow the head that was sent."""
        if reply.is_fault:
            self._fail(ends.handler_failed(), ends.ERROR_FUNCTION)
        else:
            self._fail(ends.not_a_stream(reply.head), ends.ERROR_FUNCTION)

    def on_reply_end(self, *, is_exact: bool) -> None:
        """The function ended its answer itself."""
        assert self._stream is not None
        self._stream.end()
        if not is_exact:
            self._client.keep_alive = False
        self._finish()

    def _finish(self) -> None:
        upstream = self._upstream
        self._leave(ends.DONE)
        if upstream is not None:
            if self._is_request_sent:
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
            self._fail(ends.replica_failed(why, is_begun=self._has_head_sent), ends.REPLICA_DIED)

    @property
    def _has_head_sent(self) -> bool:
        return self._stream is not None and self._stream.is_head_sent

    def end(self, error: TailraceError, reason: str) -> None:
        """End the call from outside: a clock, a drain."""
        if not self.is_over:
            self._fail(error, reason)

    def _fail(self, error: TailraceError, reason: str) -> None:
        """End with an error of ours: a real status while nothing was sent, else as the stream can tell it."""
        upstream, stream, client = self._upstream, self._stream, self._client
        is_begun = self._has_head_sent
        if not is_begun:
            self._status = error.http_status
        self._leave(reason)
        if upstream is not None:
            upstream.abort()
        call_id = self.call_id.decode()
        if not is_begun:
            client.keep_alive = client.keep_alive and self._is_request_sent
            head, date = self._request.head, self._edge.date()
            accepts_json = self._request.accepts_json
            client.write(
                error_reply(error, head, call_id, date, keep_alive=client.keep_alive, is_json=accepts_json)
            )
            client.call_over(self)
        elif stream is not None and stream.fail(error.code, error.message, call_id):
            client.keep_alive = False
            client.call_over(self)
        else:
            client.cut(with_reset=stream is None or not stream.is_chunked)

    def refuse_body(self, error: TailraceError) -> None:
        """The client's body broke a limit or the coding: answer if nothing was sent, else cut."""
        if not self._has_head_sent:
            self._fail(error, ends.REFUSED)
            return
        is_chunked = self._stream is not None and self._stream.is_chunked
        self.on_client_gone()
        self._client.cut(with_reset=not is_chunked)

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
        upstream = self._upstream
        assert upstream is not None
        if not self._request.head.wants_websocket or self._is_early:
            self._fail(ends.unasked_upgrade(), ends.ERROR_FUNCTION)
            return
        self._client.write(tunnel_head(head, self._call_lines()))
        self._edge.outbox.flush()
        self._status = 101
        self._upstream = None
        self._edge.pool.hand_over(upstream)
        self._tunnel = Tunnel(
            self._edge, self._client.transport, upstream.transport, self._clocks, self._on_tunnel_over
        )
        self._tunnel.begin(to_upstream=self._client.hand_over(), to_client=first)

    def _on_tunnel_over(self, reason: str, sent_bytes: int) -> None:
        self._bytes = sent_bytes
        self._leave(reason)

    # Clocks.

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again."""
        clocks, stream = self._clocks, self._stream
        last_at = stream.last_at if stream is not None else math.inf
        if self._is_client_full and last_at != math.inf:
            last_at = now  # the function is held back: its silence is not its own
        marks = Marks(self._began_at, self._taken_at, self._asked_at, last_at)
        at, name = expiry(clocks, marks, is_request_complete=self._is_request_sent)
        if now >= at:
            assert self._function is not None
            self.end(ends.expired(name, clocks, self._function), ends.TIMEOUT + name)
            return math.inf
        if not self._is_request_sent and not self._client.is_paused:
            stalls_at = min(self._read_at, max(self._began_at, self._taken_at)) + clocks.stall_s
            if self._read_at != math.inf:
                stalls_at = self._read_at + clocks.stall_s
            if now >= stalls_at:
                self.end(ends.stalled(clocks.stall_s), ends.TIMEOUT + "read")
                return math.inf
            at = min(at, stalls_at)
        return min(at, now + clocks.look_s, self._keep_alive(now))

    def _keep_alive(self, now: float) -> float:
        """Heads that were held long enough, heartbeats; when the next one is due."""
        clocks, stream = self._clocks, self._stream
        if stream is None:
            at = self._began_at + clocks.early_head_s if self._wants_early else math.inf
            if now < at:
                return at
            self._send_early_head()
            return now + clocks.heartbeat_s
        if not stream.is_head_sent:
            at = self._answered_at + clocks.early_head_s
            if now < at:
                return at
            stream.last_beat_at = now
            stream.send_head()
        if not stream.is_events or self._is_client_full:
            return math.inf
        silent_since = max(stream.last_beat_at, stream.last_at if stream.last_at != math.inf else 0.0)
        if now >= silent_since + clocks.heartbeat_s:
            stream.beat(now)
            silent_since = now
        return silent_since + clocks.heartbeat_s

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
        self._held = None
        if self._waiter is not None and self._function is not None:
            self._function.leave(self._waiter)
            self._waiter = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._give_back_place()
        if self.call_id:
            self._account(reason)

    def _account(self, reason: str) -> None:
        edge, entry, stream, request = self._edge, self._entry, self._stream, self._request
        now = edge.clock()
        total_s = now - self._began_at
        first_at = now if reason == ends.DONE else math.inf
        if stream is not None:
            first_at = stream.first_content_at
            self._bytes = stream.sent_bytes
        if entry is not None:
            numbers = entry.numbers
            if stream is not None:
                numbers.open_streams -= 1
            numbers.end(self._status, reason, total_s)
            if first_at != math.inf:
                numbers.first_content.observe(first_at - self._began_at)
            edge.call_ends()
        if edge.log is not None:
            edge.log.write(
                call_id=self.call_id,
                function=entry.label if entry is not None else request.label or b"",
                method=request.head.method,
                status=self._status,
                end_reason=reason,
                bytes_out=self._bytes,
                first_byte_s=first_at - self._began_at if first_at != math.inf else None,
                total_s=total_s,
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
        self._is_client_full = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        self._is_client_full = False
        if self._stream is not None and self._stream.last_at != math.inf:
            self._stream.last_at = self._edge.clock()
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def held_bytes(self) -> int:
        """Bytes of the request that wait here or for the replica to read them."""
        upstream = self._upstream
        return self._held_bytes if upstream is None else upstream.transport.get_write_buffer_size()
