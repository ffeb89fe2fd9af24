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

from tailrace.edge import ends
from tailrace.edge.answer import Answer
from tailrace.edge.call_id import new_call_id
from tailrace.edge.clocks import Clocks, Marks, expiry
from tailrace.edge.heads import Reply, Request, tunnel_head
from tailrace.edge.plane import Client, Edge, Entry
from tailrace.edge.pool import Upstream
from tailrace.edge.stream import Stream
from tailrace.edge.tunnel import Tunnel
from tailrace.edge.upload import Upload
from tailrace.errors import NotFound, TailraceError
from tailrace.functions.table import Function, Replica, Waiter
from tailrace.provider.contract import Address
from tailrace.wire.heads import ResponseHead

# A replica that refuses a connection is usually dead, and its end is told within milliseconds.
SEEK_AGAIN_S = 0.05
_NO_CLOCKS = Clocks()


class Call:
    """Carries one request and its answer: the client calls ``on_request_*``, the upstream the rest."""

    __slots__ = (
        "_answer", "_began_at", "_client", "_clocks", "_connecting", "_edge", "_entry", "_function",
        "_is_full", "_replica", "_request", "_retry", "_taken_at", "_upload", "_upstream", "_waiter",
        "is_over",
    )  # fmt: skip

    def __init__(self, edge: Edge, client: Client, request: Request, now: float) -> None:
        self._edge = edge
        self._client = client
        self._request = request
        self._answer = Answer(edge, client, request)
        self._began_at = now
        self._taken_at = math.inf
        self._clocks = _NO_CLOCKS
        self._entry: Entry | None = None
        self._function: Function | None = None
        self._replica: Replica | None = None
        self._upstream: Upstream | None = None
        self._upload: Upload | None = None
        self._waiter: Waiter | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_full = self.is_over = False

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
        answer = self._answer
        answer.call_id = new_call_id()
        answer.start_ns = time.time_ns()
        function = edge.table.find(request.label)
        if function is None:
            self._fail(
                ends.not_found(edge.table, request.label, is_open=not edge.settings.auth), ends.REFUSED
            )
            return
        self._function = function
        entry = self._entry = edge.entry(function)
        entry.numbers.started += 1
        answer.belongs_to(entry)
        edge.open_calls += 1
        clocks = entry.clocks
        if request.timeout_s:
            clocks = clocks.shortened(request.timeout_s)
        self._clocks = clocks
        self._client.look_by(self._began_at + clocks.look_s)
        if request.refusal is not None or edge.is_overloaded:
            self._fail(request.refusal or ends.overloaded(), ends.REFUSED)
            return
        self._set_out(function)

    def _set_out(self, function: Function) -> None:
        """All that can be refused at once was looked at."""
        self._seek_replica(function)

    def _seek_replica(self, function: Function) -> None:
        self._retry = None
        replica = None if function.waiting or function.is_removed else function.lease()
        limit = self._edge.settings.queue_limit
        if replica is not None or function.is_removed:
            self._on_replica(replica)
        elif len(function.waiting) >= limit and not function.is_asleep:
            self._fail(ends.queue_full(function, limit), ends.REFUSED)
        else:
            self._waiter = function.wait(self._on_replica)
            self._tell_state("queued")

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
        head = self._sent_head()
        if upload is not None:
            head += upload.attach(upstream.transport, now)
        edge.outbox.put(upstream.transport, head)
        if self._is_full:  # of what it was told while it waited
            upstream.transport.pause_reading()
        self._tell_state("starting")
        if upload is not None and not upload.is_complete:
            self._answer.ask_on()
            self._client.resume_reading()

    def _sent_head(self) -> bytes:
        """The head that the replica, or the control plane, is sent."""
        request = self._request
        if request.label is None:
            return b"%bx-forwarded-for: %b\r\n%b" % (request.prefix, request.client, request.framing)
        ids = request.prefix, self._answer.call_id, self._answer.start_ns, request.framing
        return b"%bx-call-id: %b\r\nx-start-time: %d\r\n%b" % ids

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

    def _tell_state(self, state: str) -> None:
        if self._answer.wants_early:
            self._answer.tell_state(state, self._clocks.early_head_s)

    # The way out.

    def on_reply_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once."""
        if reply.is_fault or not self._answer.fits(reply):
            self._refuse_reply(reply)
            return
        if not self._is_request_sent:
            self._client.keep_alive = False
        if self._answer.is_early:
            stream = self._answer.begin(reply)
            stream.send(body, None)
            stream.end()
        else:
            self._answer.send_whole(reply, body)
        self._finish()

    def on_reply(self, reply: Reply) -> Stream | None:
        """The head of an answer whose body follows."""
        if reply.is_fault or not self._answer.fits(reply):
            self._refuse_reply(reply)
            return None
        if not self._is_request_sent:
            self._client.keep_alive = False
        stream = self._answer.begin(reply)
        if not self._clocks.early_head_s:
            stream.send_head()
        return stream

    def _refuse_reply(self, reply: Reply) -> None:
        """The function failed, or answered what can not follow the head that was sent."""
        error = ends.handler_failed() if reply.is_fault else ends.not_a_stream(reply.head)
        self._fail(error, ends.ERROR_FUNCTION)

    def on_reply_end(self, *, is_exact: bool) -> None:
        """The function ended its answer itself."""
        assert self._answer.stream is not None
        self._answer.stream.end()
        if not is_exact:
            self._client.keep_alive = False
        self._finish()

    def _finish(self) -> None:
        upstream = self._upstream
        # A request for a websocket is its connection's last to many servers, also where they refuse it.
        is_reusable = self._is_request_sent and not self._request.head.wants_websocket
        self._leave(ends.DONE)
        if upstream is not None:
            if is_reusable:
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
            self._fail(ends.replica_failed(why, is_begun=self._answer.is_head_sent), ends.REPLICA_DIED)

    def _fail(self, error: TailraceError, reason: str) -> None:
        """End with an error of ours, told as truthfully as the answer's state allows."""
        upstream, answer = self._upstream, self._answer
        is_told = answer.fail(error, keep_alive=self._is_request_sent)
        self._leave(reason)
        if upstream is not None:
            upstream.abort()
        if is_told:
            self._client.call_over(self)
        else:
            self._client.cut(with_reset=answer.stream is None or not answer.stream.is_chunked)

    def end(self, error: TailraceError, reason: str) -> None:
        """End the call from outside: a clock, a drain, a body that broke a limit or its coding."""
        if not self.is_over:
            self._fail(error, reason)

    def on_client_gone(self, reason: str) -> None:
        """The client left, or is given up: the replica is told by a closed connection."""
        if self.is_over:
            return
        upstream = self._upstream
        self._leave(reason)
        if upstream is not None:
            upstream.abort()

    # A function that becomes a websocket.

    def on_upgraded(self, head: ResponseHead, first: bytes) -> None:
        """The function answered 101: from here on both connections are one pipe."""
        upstream, client = self._upstream, self._client
        assert upstream is not None
        if not self._request.head.wants_websocket or self._answer.is_early:
            self._fail(ends.unasked_upgrade(), ends.ERROR_FUNCTION)
            return
        client.write(tunnel_head(head, self._answer.call_lines()))
        self._edge.outbox.flush()
        self._answer.begin_tunnel()
        self._upstream = None
        self._edge.pool.hand_over(upstream)
        tunnel = Tunnel(self._edge, client.transport, upstream.transport, self._clocks, self._on_tunnel_over)
        tunnel.begin(to_upstream=client.hand_over(), to_client=first)

    def _on_tunnel_over(self, reason: str, sent_bytes: int) -> None:
        self._answer.end_tunnel(sent_bytes)
        self._leave(reason)

    # Clocks.

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again."""
        clocks, stream, upload = self._clocks, self._answer.stream, self._upload
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
        at = min(at, now + clocks.look_s)
        if self._is_full:
            return at
        hold_s, heartbeat_s = clocks.early_head_s, clocks.heartbeat_s
        return min(at, self._answer.show_life(self._began_at, now, hold_s=hold_s, heartbeat_s=heartbeat_s))

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
        if self._function is not None:
            self._function.invocations += 1
        if self._answer.call_id:
            self._answer.account(reason, self._began_at, is_done=reason == ends.DONE)

    # Backpressure, both ways.

    def on_upstream_full(self) -> None:
        if not self._is_request_sent:
            self._client.pause_reading()

    def on_upstream_drained(self) -> None:
        if self._upload is not None:
            self._upload.read_at = self._edge.clock()  # it was not read until here
        self._client.resume_reading()

    def on_client_full(self) -> None:
        self._is_full = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        self._is_full = False
        stream = self._answer.stream
        if stream is not None and stream.last_at != math.inf:
            stream.last_at = self._edge.clock()
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def held_bytes(self) -> int:
        """Bytes of the request that wait here or for the replica to read them."""
        return 0 if self._upload is None else self._upload.held_bytes()
