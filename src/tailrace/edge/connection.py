"""One client's connection: reads its requests, strictly, one call at a time, and answers them in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import cast

from tailrace.edge import ends
from tailrace.edge.call import Call
from tailrace.edge.closing import close_gently, reset_when_closed
from tailrace.edge.heads import Request
from tailrace.edge.plane import Edge
from tailrace.edge.recorded import make_call
from tailrace.edge.replies import refusal
from tailrace.edge.watch import Stall, Watch
from tailrace.errors import InvalidRequest, TailraceError, TooLarge
from tailrace.wire.bodies import BodyReader, BodyRefused
from tailrace.wire.heads import HeadReader, HeadRefused, parse_request

# A client may send its next requests early; more than this unread is abuse, and the connection ends.
PIPELINED_BYTES = 64 * 1024
# A longer head is read anew each time: what is made of it takes several times as much.
REMEMBERED_BYTES = 2048
# After an answer that came before the request's end, the rest is read and dropped for this long, so that
# the client sees the answer instead of a reset. Source: RFC 9112 section 9.6.
LINGER_S = 2.0
# What was written to a TLS connection that is to be reset has so long to leave.
LAST_BYTES_S = 0.1


class Connection:
    """An asyncio protocol; to a call and to the plane it is the client."""

    __slots__ = (
        "_body", "_call", "_edge", "_heads", "_is_lingering", "_is_private", "_last", "_last_request",
        "_pending", "_requests", "_stall", "_timer", "_waits_since", "_watch", "due_at", "is_paused",
        "keep_alive", "peer", "transport",
    )  # fmt: skip

    def __init__(self, edge: Edge, *, is_private: bool = False) -> None:
        self._edge = edge
        self._is_private = is_private
        self._call: Call | None = None
        self._body: BodyReader | None = None
        self._requests = 0
        self._heads = HeadReader()
        # The last head's bytes and what was made of them: a client sends the same one again and again.
        self._last = b""
        self._last_request: Request | None = None
        self._pending = bytearray()
        self._stall: Stall | None = None
        self._is_lingering = False
        # Since when it has no call, or its next head is coming.
        self._waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._watch: Watch | None = None
        self.due_at = math.inf
        self.is_paused = False
        self.keep_alive = True
        self.peer = b""
        self.transport: asyncio.Transport

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        peername = self.transport.get_extra_info("peername")
        self.peer = peername[0].encode() if isinstance(peername, tuple) else b"unix"
        edge = self._edge
        if not edge.make_room():
            edge.numbers.connections_refused += 1
            why = "as many clients are connected as may (connection_limit)"
            self.transport.write(refusal(503, why, edge.date()))
            self._close()
            return
        edge.clients.add(self)
        edge.numbers.connections_open += 1
        self._wait(edge.clock())

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._forget()
        self._drop_call()

    def _forget(self) -> None:
        edge = self._edge
        if self in edge.clients:
            edge.clients.discard(self)
            edge.idle.pop(self, None)
            edge.numbers.connections_open -= 1
        edge.wheel.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        self._stop_watch()

    def eof_received(self) -> None:
        """A client that ends its side has left; what it did not read yet waits a bounded time."""
        if self._call is not None:
            self._vanish()
        else:
            self._close()

    def pause_writing(self) -> None:
        now = self._edge.clock()
        self._stall = Stall(self.transport, now, self._edge.settings.stall_timeout_s)
        self.look_by(self._stall.look_again(now))
        if self._call is not None:
            self._call.on_client_full()

    def resume_writing(self) -> None:
        self._stall = None
        if self._call is not None:
            self._call.on_client_drained()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._body is not None:
            self._read_body(self._body, data)
        elif self._is_lingering:
            pass
        elif self._call is not None or self._stall is not None or self._pending:
            self._keep_for_later(data)
        else:
            self._read_head(data)

    # Clocks of a connection; a call's own are asked for from here.

    def look_by(self, at: float) -> None:
        """Look at this connection and its call at this moment at the latest."""
        if at < self.due_at:
            self._edge.wheel.look_by(self, at)

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again."""
        if self.transport.is_closing():
            return math.inf
        looks_at = math.inf
        if self._stall is not None:
            looks_at = self._stall.look_again(now)
            if now >= looks_at:
                self._vanish(ends.CLIENT_STALLED)
                return math.inf
        call = self._call
        if call is not None:
            return min(looks_at, call.on_clock(now))
        if self._is_lingering or self._stall is not None:
            return looks_at
        settings = self._edge.settings
        if not self._heads.held and self._requests:
            self._last_request = None  # who asks nothing now holds nothing of what it asked last
            at = self._waits_since + settings.keep_alive_timeout_s
            if now >= at:
                self._close()
            return at
        at = self._waits_since + settings.header_timeout_s
        if now < at:
            return at
        if self._heads.held:
            self._refuse(408, f"no whole head came within {settings.header_timeout_s:g} s (header_timeout_s)")
        else:
            self._close()
        return math.inf

    def _wait(self, now: float) -> None:
        """Wait for the next request."""
        self._waits_since = now
        self._edge.idle[self] = None
        settings = self._edge.settings
        self.look_by(now + (settings.keep_alive_timeout_s if self._requests else settings.header_timeout_s))

    def close_idle(self) -> None:
        """Close the connection when no call runs on it."""
        if self._call is None:
            self._close()

    def take_no_more(self) -> bool:
        """Take no further request; True while the first one, or the rest of a head, may be on its way."""
        self.keep_alive = False
        if self._call is not None or self._is_lingering:
            return False
        if self._heads.held or not self._requests:
            return True
        self._close()
        return False

    def end(self, error: TailraceError, reason: str) -> None:
        """End the call with this error, as truthfully as its state allows, and close."""
        self.keep_alive = False
        if self._call is not None:
            self._call.end(error, reason)
        else:
            self._close()

    def held_bytes(self) -> int:
        """Bytes held for this client, beside the sockets' own buffers."""
        held = self.transport.get_write_buffer_size() + len(self._pending) + len(self._heads.held)
        return held if self._call is None else held + self._call.held_bytes()

    # Reading a request.

    def _read_head(self, data: bytes) -> None:
        request = self._last_request
        if request is not None and not self._heads.held and data.startswith(self._last):
            self._heads.has_skipped = False
            self._begin(request, data[len(self._last) :])
            return
        try:
            found = self._heads.feed(data)
            if found is None:
                self._wait_for_the_rest()
                return
            is_short = len(found[0]) <= REMEMBERED_BYTES
            if is_short and request is not None and request.renew(self._last, found[0]):
                self._last = found[0]
                self._begin(request, found[1])
                return
            head = parse_request(found[0])
        except HeadRefused as refused:
            self._refuse(refused.status, refused.reason)
            return
        edge = self._edge
        request = Request(head, peer=self.peer, is_tls=edge.is_tls, is_private=self._is_private)
        if is_short and request.wish is None:  # whose lines are looked at that may differ in a renewed one
            self._last, self._last_request = found[0], request
        if edge.proxies is not None and not self._is_private:
            request.client = edge.proxies.client(self.peer, request.forwarded)
        self._begin(request, found[1])

    def _wait_for_the_rest(self) -> None:
        if self in self._edge.idle:
            del self._edge.idle[self]
            self._waits_since = self._edge.clock()
            self.look_by(self._waits_since + self._edge.settings.header_timeout_s)

    def _begin(self, request: Request, rest: bytes) -> None:
        edge, head = self._edge, request.head
        edge.idle.pop(self, None)
        self._requests += 1
        self.keep_alive = (
            head.keep_alive and self._requests < edge.settings.connection_requests and not edge.is_draining
        )
        if request.has_body and not self._expect_body(request):
            return
        call = self._call = make_call(edge, self, request, edge.clock())
        call.open()
        if not rest or self.transport.is_closing():
            return
        if call.is_over and not self._is_lingering:  # answered already: the rest is the next request
            self._pending += rest
            edge.loop.call_soon(self._next)
        else:
            self.data_received(rest)

    def _expect_body(self, request: Request) -> bool:
        """Get ready for the request's body; False when it is refused."""
        settings = self._edge.settings
        # The control plane bounds its own bodies; a bundle may be larger than what functions take.
        own = settings.bundle_limit if request.label is None else 0
        limit = max(settings.body_limit, own)
        try:
            self._body = BodyReader(request.head, limit)
        except BodyRefused as refused:
            self._refuse(refused.status, refused.reason)
            return False
        return True

    def _read_body(self, reader: BodyReader, data: bytes) -> None:
        call = self._call
        try:
            body = reader.feed(data)
        except BodyRefused as refused:
            self.keep_alive = False
            if call is None or call.is_over:
                self._linger()
            else:
                error = TooLarge if refused.status == 413 else InvalidRequest
                call.end(error(refused.reason), ends.REFUSED)
            return
        if reader.is_complete:
            self._body = None
        if call is not None and not call.is_over:
            call.on_request_body(body, is_last=reader.is_complete)
        if reader.surplus:
            self._keep_for_later(reader.surplus)

    def _keep_for_later(self, data: bytes) -> None:
        """Bytes of the next request: kept in order, read when this call is over."""
        if len(self._pending) + len(data) > PIPELINED_BYTES:
            self._vanish()
            return
        self._pending += data

    # Ending a call.

    def call_over(self, call: object) -> None:
        """The call's answer is written. Read the next request, or close."""
        if self._call is not call:
            return
        self._call = None
        if self._body is not None:
            self._linger()
        elif not self.keep_alive:
            self._close()
        else:
            self._wait(self._edge.clock())
            if self._pending:
                self._edge.loop.call_soon(self._next)

    def _next(self) -> None:
        # A client that has not read its last answer gets no next one: each could fill the buffer anew.
        is_free = self._call is None and self._stall is None and not self._is_lingering
        if is_free and self._pending and not self.transport.is_closing():
            data = bytes(self._pending)
            self._pending.clear()
            self._read_head(data)

    def _refuse(self, status: int, reason: str) -> None:
        self._edge.numbers.requests_refused += 1
        self.write(refusal(status, reason, self._edge.date()))
        self._linger()

    def _vanish(self, reason: str = ends.CLIENT_GONE) -> None:
        """The client is gone, or as good as gone."""
        self._drop_call(reason)
        self.transport.abort()

    def _drop_call(self, reason: str = ends.CLIENT_GONE) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.on_client_gone(reason)

    def _linger(self) -> None:
        """End our side, and read what is still on its way for a bounded time."""
        self._body = None
        self._pending.clear()
        self._is_lingering = True
        self._edge.idle.pop(self, None)
        self.resume_reading()
        if self.transport.is_closing():
            return
        self._edge.outbox.flush()
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self._timer = self._edge.loop.call_later(LINGER_S, close_gently, self._edge.loop, self.transport)

    def _close(self) -> None:
        self._is_lingering = True
        self._edge.idle.pop(self, None)
        self._edge.outbox.flush()
        close_gently(self._edge.loop, self.transport)

    def cut(self, *, with_reset: bool) -> None:
        """End the connection so that no client can take the body for complete.

        Args:
            with_reset: Send RST: for bodies whose end is the connection's end, a FIN would be a clean one.
        """
        self._call = None
        self._body = None
        self._edge.outbox.flush()
        if with_reset:
            reset_when_closed(self.transport)
            if self._edge.is_tls:  # whose closing is a goodbye, and so a clean end too
                self._is_lingering = True
                self._timer = self._edge.loop.call_later(LAST_BYTES_S, self.transport.abort)
                return
        self._close()

    def hand_over(self) -> bytes:
        """Give the transport away to a tunnel; the bytes that came after the request."""
        self._call = None
        self._forget()
        return bytes(self._pending)

    # What a call asks for.

    def write(self, data: bytes) -> None:
        """Send bytes, in order with everything else that is sent on this connection."""
        self._edge.outbox.put(self.transport, data)

    def pause_reading(self) -> None:
        """Stop reading the request's body. Only while it is incomplete: else its leaving goes unseen."""
        if not self.is_paused and self._body is not None:
            self.is_paused = True
            self.transport.pause_reading()
            self._watch = Watch(self._edge.loop, self.transport, self._vanish)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def resume_reading(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._stop_watch()
            if not self.transport.is_closing():
                self.transport.resume_reading()
