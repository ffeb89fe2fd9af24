"""The listening side of the edge: reads clients' requests, strictly, one call at a time per connection."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from typing import cast

from tailrace.edge.call import Call
from tailrace.edge.plane import Edge
from tailrace.edge.replies import refusal
from tailrace.edge.routes import route
from tailrace.errors import InvalidRequest, TooLarge
from tailrace.wire.chunked import ChunkedDecoder, CodingViolated
from tailrace.wire.heads import HeadReader, HeadRefused, RequestHead, parse_request

# A client may send its next requests early; more than this unread is abuse, and the connection ends.
PIPELINED_BYTES = 64 * 1024
# After an answer that came before the request's end, the rest is read and dropped for this long, so that
# the client sees the answer instead of a reset. Source: RFC 9112 section 9.6.
LINGER_S = 2.0
# How often a client that is not read, because its upload is held back, is asked whether it is still there.
LOOK_S = 0.5
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
# A connection that is being closed but whose client does not read is aborted after this.
CLOSE_S = 5.0


class Client(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_body_limit", "_call", "_decoder", "_edge", "_heads", "_is_full", "_is_lingering", "_is_paused",
        "_left", "_pending", "_received", "_timer", "_watch", "keep_alive", "peer", "transport",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._call: Call | None = None
        self._decoder: ChunkedDecoder | None = None
        self._left = 0
        self._received = 0
        self._body_limit = 0
        self._heads = HeadReader()
        self._pending = bytearray()
        self._is_full = False
        self._is_paused = False
        self._is_lingering = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.keep_alive = True
        self.peer = b""
        self.transport: asyncio.Transport

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        peername = self.transport.get_extra_info("peername")
        self.peer = peername[0].encode() if isinstance(peername, tuple) else b"unix"
        self._edge.clients.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._edge.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._stop_watch()
        call, self._call = self._call, None
        if call is not None:
            call.on_client_gone()

    def eof_received(self) -> None:
        """A client that ends its side has left; what it did not read yet waits a bounded time."""
        if self._call is not None:
            self._drop_call()
            self.transport.abort()
        else:
            self._close()

    def pause_writing(self) -> None:
        self._is_full = True
        if self._call is not None:
            self._call.on_client_full()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._call is not None:
            self._call.on_client_drained()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._left or self._decoder is not None:
            self._read_body(data)
        elif self._is_lingering:
            pass
        elif self._call is not None or self._is_full or self._pending:
            self._keep_for_later(data)
        else:
            self._read_head(data)

    # Reading a request.

    def _read_head(self, data: bytes) -> None:
        try:
            found = self._heads.feed(data)
            if found is None:
                return
            head = parse_request(found[0])
        except HeadRefused as refused:
            self._refuse(refused.status, refused.reason)
            return
        self._begin(head, found[1])

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        found = route(head.target)
        settings = self._edge.settings
        # The control plane bounds its own bodies; a bundle may be larger than what functions take.
        limit = settings.body_limit if found else max(settings.body_limit, settings.bundle_limit)
        if head.content_length is not None and head.content_length > limit:
            self._refuse(413, f"the request body is larger than the limit of {limit} bytes (body_limit)")
            return
        self._body_limit = limit
        self.keep_alive = head.keep_alive
        call = self._call = Call(self._edge, self, head)
        self._received = 0
        self._left = head.content_length or 0
        if head.is_chunked:
            self._decoder = ChunkedDecoder()
        elif not self._left:
            call.on_no_request_body()
        call.open(found)
        if not rest or self.transport.is_closing():
            return
        if self._call is None and not self._is_lingering:  # answered already: the rest is the next request
            self._pending += rest
            self._edge.loop.call_soon(self._next)
        else:
            self.data_received(rest)

    def _read_body(self, data: bytes) -> None:
        decoder, call = self._decoder, self._call
        if decoder is None:
            body, surplus = data[: self._left], data[self._left :]
            self._left -= len(body)
            is_last = not self._left
        else:
            try:
                body = decoder.feed(data)
            except CodingViolated as violated:
                self._refuse_body(400, str(violated))
                return
            surplus, is_last = decoder.surplus, decoder.is_done
            if is_last:
                self._decoder = None
            self._received += len(body)
            if self._received > self._body_limit:
                self._refuse_body(413, f"the request body is larger than {self._body_limit} bytes")
                return
        if call is not None and not call.is_over:
            call.on_request_body(body, is_last=is_last)
        if surplus:
            self._keep_for_later(surplus)

    def _keep_for_later(self, data: bytes) -> None:
        """Bytes of the next request: kept in order, read when this call is over."""
        if len(self._pending) + len(data) > PIPELINED_BYTES:
            self._drop_call()
            self.transport.abort()
            return
        self._pending += data

    # Ending a call.

    def call_over(self, call: Call) -> None:
        """The call's answer is written. Read the next request, or close."""
        if self._call is not call:
            return
        self._call = None
        if self._left or self._decoder is not None:
            self._linger()
        elif not self.keep_alive:
            self._close()
        elif self._pending:
            self._edge.loop.call_soon(self._next)

    def _next(self) -> None:
        # A client that has not read its last answer gets no next one: each could fill the buffer anew.
        is_free = self._call is None and not self._is_full and not self._is_lingering
        if is_free and self._pending and not self.transport.is_closing():
            data = bytes(self._pending)
            self._pending.clear()
            self._read_head(data)

    def _refuse(self, status: int, reason: str) -> None:
        self.write(refusal(status, reason, self._edge.date()))
        self._linger()

    def _refuse_body(self, status: int, reason: str) -> None:
        call = self._call
        self.keep_alive = False
        if call is None or call.is_over:
            self._linger()
        else:
            call.refuse_body(TooLarge(reason) if status == 413 else InvalidRequest(reason))

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.on_client_gone()

    def _linger(self) -> None:
        """End our side, and read what is still on its way for a bounded time."""
        self._left, self._decoder = 0, None
        self._pending.clear()
        self._is_lingering = True
        self.resume_reading()
        if self.transport.is_closing():
            return
        self._edge.outbox.flush()
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self._timer = self._edge.loop.call_later(LINGER_S, self.transport.abort)

    def _close(self) -> None:
        self._is_lingering = True
        self._edge.outbox.flush()
        self.transport.close()
        self._timer = self._edge.loop.call_later(CLOSE_S, self.transport.abort)

    def cut(self, *, with_reset: bool) -> None:
        """End the connection so that no client can take the body for complete.

        Args:
            with_reset: Send RST: for bodies whose end is the connection's end, a FIN would be a clean one.
        """
        self._call = None
        self._left, self._decoder = 0, None
        self._edge.outbox.flush()
        if with_reset:
            sock = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    # What a call asks for.

    def write(self, data: bytes) -> None:
        """Send bytes, in order with everything else that is sent on this connection."""
        self._edge.outbox.put(self.transport, data)

    def pause_reading(self) -> None:
        """Stop reading the request's body. Only while it is incomplete: else its leaving goes unseen."""
        if not self._is_paused and (self._left or self._decoder is not None):
            self._is_paused = True
            self.transport.pause_reading()
            self._watch = self._edge.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        if _is_gone(self.transport.get_extra_info("socket")):
            self._drop_call()
            self.transport.abort()
        else:
            self._watch = self._edge.loop.call_later(LOOK_S, self._look)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._stop_watch()
            if not self.transport.is_closing():
                self.transport.resume_reading()


def _is_gone(sock: socket.socket) -> bool:
    """Whether the peer ended its side or the connection broke, seen past bytes that are not read."""
    poller = select.poll()
    poller.register(sock.fileno(), _GONE)
    return bool(poller.poll(0))


async def listen(edge: Edge, sock: socket.socket) -> None:
    """Accept clients on a listening socket, which the edge owns from now on."""
    edge.server = await edge.loop.create_server(lambda: Client(edge), sock=sock, backlog=2048)
