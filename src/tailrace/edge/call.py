"""One call on its way through the edge: from the client's head to the end of the function's answer.

    opened ──▶ waiting (no replica is ready) ──▶ connecting ──▶ sent ──▶ answering ──▶ over
                    │ queue clock: 503               │ 502        │ 502       │ lost: error frame or cut
    client gone, in any state: the upstream request is aborted at once and nothing is sent

The per-chunk path is `Call.on_response_body`: no task, no timer, no log.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from tailrace.edge.call_id import new_call_id
from tailrace.edge.heads import client_call_id, request_to_control, request_to_function, response_to_client
from tailrace.edge.plane import Edge
from tailrace.edge.pool import Upstream
from tailrace.edge.replies import error_reply
from tailrace.edge.stream import Stream
from tailrace.errors import FunctionError, InvalidRequest, NoReplica, NotFound, ReplicaFailed, TailraceError
from tailrace.functions.table import Function, Replica, Waiter
from tailrace.names import DEFAULT_NAMESPACE, parse_function_name
from tailrace.provider.contract import Address
from tailrace.wire.heads import RequestHead, ResponseHead

# Request body bytes held while a call waits; beyond it the client is not read.
HELD_BODY_BYTES = 64 * 1024
# A replica that refuses a connection is usually dead, and its end is told within milliseconds.
SEEK_AGAIN_S = 0.05
# Names listed in a 404, so that a typing error is seen without a second request.
NAMES_LISTED = 20


class Client(Protocol):
    """What a call asks of the connection it answers on."""

    peer: bytes
    keep_alive: bool
    transport: asyncio.Transport

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def call_over(self, call: Call) -> None:
        """The answer is written; the connection may take its next request, or close."""

    def cut(self, *, with_reset: bool) -> None:
        """End the connection so that no client can take the body for complete."""


class Call:
    """Carries one request and its answer: the client calls ``on_request_*``, the upstream the rest."""

    __slots__ = (
        "_call_lines",
        "_client",
        "_connecting",
        "_edge",
        "_function",
        "_head",
        "_held",
        "_held_bytes",
        "_is_request_sent",
        "_queue_clock",
        "_replica",
        "_retry",
        "_stream",
        "_upstream",
        "_waiter",
        "call_id",
        "is_over",
        "request_head",
    )  # fmt: skip

    def __init__(self, edge: Edge, client: Client, head: RequestHead) -> None:
        self._edge = edge
        self._client = client
        self._head = head
        self._function: Function | None = None
        self._replica: Replica | None = None
        self._upstream: Upstream | None = None
        self._waiter: Waiter | None = None
        self._queue_clock: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_request_sent = False
        self._call_lines = b""
        self.call_id = b""
        self.request_head = b""
        self.is_over = False

    # The way in.

    def open(self, route: tuple[bytes, bytes] | None) -> None:
        """Begin: find the function, a replica, a connection; or answer why not."""
        if route is None:
            self.request_head = request_to_control(self._head, peer=self._client.peer)
            self._connect(self._edge.control)
            return
        label, target = route
        call_id = new_call_id()
        self.call_id = call_id
        function = self._edge.table.find(label)
        if function is None:
            self._fail(self._not_found(label))
            return
        client_id = client_call_id(self._head)
        if client_id is None:
            self._fail(InvalidRequest("X-Call-Id is not 1 to 128 of A-Z a-z 0-9 . _ -"))
            return
        self._function = function
        start_ns = time.time_ns()
        self._call_lines = b"X-Call-Id: %b\r\nX-Start-Time: %d" % (call_id, start_ns)
        self.request_head = request_to_function(
            self._head,
            target,
            peer=self._client.peer,
            call_id=call_id,
            start_ns=start_ns,
            client_id=client_id,
        )
        function.invocations += 1
        self._seek_replica()

    def _seek_replica(self) -> None:
        function = self._function
        assert function is not None
        self._retry = None
        replica = None if function.is_removed else function.lease()
        if replica is not None:
            self._on_replica(replica)
            return
        self._start_queue_clock()
        if function.is_removed:
            self._on_replica(None)
        else:
            self._waiter = function.wait(self._on_replica)

    def _not_found(self, label: bytes) -> NotFound:
        wanted = parse_function_name(label.decode("latin-1"))
        namespace = wanted.namespace if wanted else DEFAULT_NAMESPACE
        names = list(self._edge.table.names(namespace))
        there = ", ".join(f"'{name}'" for name in names[:NAMES_LISTED]) or "none"
        more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
        name = wanted.name if wanted else label[:64].decode("latin-1")
        return NotFound(
            f"function '{name}' not found in namespace '{namespace}'; deployed there: {there}{more}",
            hint="Deploy it: tailrace deploy -f stack.yaml",
        )

    def _queue_over(self) -> None:
        assert self._function is not None
        last = self._function.last_error
        self._fail(
            NoReplica(
                f"no replica of '{self._function.name.short}' became ready within "
                f"{self._edge.settings.queue_timeout_s:g} s" + (f"; the last error:\n{last}" if last else ""),
                hint=f"See: tailrace describe {self._function.name.short}",
            )
        )

    def _on_replica(self, replica: Replica | None) -> None:
        self._waiter = None
        if replica is None:
            self._fail(NotFound("the function was removed while the call waited for it"))
            return
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
            self._fail(ReplicaFailed(f"the control plane does not accept connections ({error})"))
            return
        self._replica.release()
        self._replica = None
        self._start_queue_clock()
        self._retry = self._edge.loop.call_later(SEEK_AGAIN_S, self._seek_replica)

    def _on_upstream(self, upstream: Upstream) -> None:
        self._stop_queue_clock()
        self._upstream = upstream
        upstream.begin(self, self._head.method)
        held, self._held = self._held, []
        self._edge.outbox.put(upstream.transport, b"".join((self.request_head, *held)))
        if self._is_request_sent:
            return
        if self._head.expects_continue:
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._client.resume_reading()

    def on_request_body(self, body: bytes, *, is_last: bool) -> None:
        """The next piece of the request's body; ``is_last`` also for an empty one."""
        if self._head.is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_last:
                framed += b"0\r\n\r\n"
            body = framed
        if is_last:
            self._is_request_sent = True
        if self._upstream is not None:
            self._edge.outbox.put(self._upstream.transport, body)
            return
        self._held.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > HELD_BODY_BYTES and not is_last:
            self._client.pause_reading()

    def on_no_request_body(self) -> None:
        """The request has no body: its head was all of it."""
        self._is_request_sent = True

    # The way out.

    def on_response_head(self, head: ResponseHead, *, has_more: bool) -> None:
        """Send the head on, framed for this client, and choose how the body will be told."""
        client = self._client
        has_body = head.has_body(self._head.method)
        is_unsized = has_body and head.content_length is None
        if not self._is_request_sent or (is_unsized and not self._head.is_http11):
            client.keep_alive = False
        is_http11 = self._head.is_http11
        first = response_to_client(
            head,
            has_body=has_body,
            to_http11=is_http11,
            keep_alive=client.keep_alive,
            call=self._call_lines,
            date=self._edge.date(),
        )
        if not has_more:
            client.write(first)
            first = b""
        wished = self._function.options.dialect if self._function else None
        self._stream = Stream(
            self._edge.outbox,
            client.transport,
            head,
            first,
            is_chunked=is_unsized and is_http11,
            wished=wished,
        )

    def on_response_body(self, body: bytes, whole: bytes | None) -> None:
        """One piece of the answer, sent on now."""
        assert self._stream is not None
        self._stream.send(body, whole)

    def on_response_end(self, *, is_exact: bool) -> None:
        """The function ended its answer itself."""
        assert self._stream is not None
        self._stream.end()
        if not is_exact:
            self._client.keep_alive = False
        upstream = self._upstream
        self._leave()
        if upstream is not None:
            if self._is_request_sent:
                self._edge.pool.give_back(upstream)
            else:
                upstream.abort()
        self._client.call_over(self)

    def on_upstream_lost(self, why: str) -> None:
        """The replica broke the connection: a real status if nothing was sent, else a truthful end."""
        self._upstream = None
        stream = self._stream
        if stream is None:
            self._fail(ReplicaFailed(f"a replica took the call and failed before it answered: {why}"))
            return
        self._leave()
        message = "the function failed before its answer was complete; its logs say why"
        if stream.fail(FunctionError.code, message, self.call_id.decode()):
            self._client.keep_alive = False
            self._client.call_over(self)
        else:
            self._client.cut(with_reset=not stream.is_chunked)

    def _fail(self, error: TailraceError) -> None:
        """Answer with an error of ours; nothing was sent before."""
        upstream = self._upstream
        self._leave()
        if upstream is not None:
            upstream.abort()
        if not self._is_request_sent:
            self._client.keep_alive = False
            self._head.keep_alive = False
        self._client.write(error_reply(error, self._head, self.call_id.decode(), self._edge.date()))
        self._client.call_over(self)

    def refuse_body(self, error: TailraceError) -> None:
        """The client's body broke a limit or the coding: answer if nothing was sent, else cut."""
        if self._stream is None:
            self._fail(error)
        else:
            self.on_client_gone()
            self._client.cut(with_reset=not self._stream.is_chunked)

    def on_client_gone(self) -> None:
        """The client left: the replica is told by a closed connection, whatever the call was doing."""
        if self.is_over:
            return
        upstream = self._upstream
        self._leave()
        if upstream is not None:
            upstream.abort()

    def _leave(self) -> None:
        """Give everything back. Every end of a call comes through here, once."""
        self.is_over = True
        self._upstream = None
        self._held.clear()
        self._stop_queue_clock()
        if self._waiter is not None and self._function is not None:
            self._function.leave(self._waiter)
            self._waiter = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._replica is not None:
            self._replica.release()
            self._replica = None

    def _start_queue_clock(self) -> None:
        if self._queue_clock is None:
            wait_s = self._edge.settings.queue_timeout_s
            self._queue_clock = self._edge.loop.call_later(wait_s, self._queue_over)

    def _stop_queue_clock(self) -> None:
        if self._queue_clock is not None:
            self._queue_clock.cancel()
            self._queue_clock = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    # Backpressure, both ways.

    def on_upstream_full(self) -> None:
        if not self._is_request_sent:
            self._client.pause_reading()

    def on_upstream_drained(self) -> None:
        self._client.resume_reading()

    def on_client_full(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
