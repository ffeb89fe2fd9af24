"""What one client is told: its head, its body, what the platform adds, and how it ends.

nothing ──▶ head held ──▶ head sent ──▶ ended
   │  a real status      │  an error frame, or a cut
"""

from __future__ import annotations

import math

from tailrace.edge.heads import Reply, Request, early_head
from tailrace.edge.plane import Client, Edge, Entry
from tailrace.edge.recording import RecordedStream
from tailrace.edge.replies import error_reply
from tailrace.edge.stream import Stream
from tailrace.errors import TailraceError
from tailrace.runs.run import Run

# What a call is logged and counted with whose client left before a status was sent. Source: nginx.
CLIENT_LEFT = 499


class Answer:
    """One call's answer to its client.

    Attributes:
        call_id: Empty for the control plane's answers, which are no calls.
        run: What its stream is recorded as; None: it is not.
        stream: The body, once it is known that it does not come whole.
        status: What the client was sent; `CLIENT_LEFT` before.
        is_early: Whether a head went out before the function had answered.
        is_head_sent: Whether a real status can not be told any more.
    """

    __slots__ = (
        "_client", "_edge", "_entry", "_held_status", "_is_asked_on", "_replied_at", "_request",
        "_sent_bytes", "_tunnel_at", "call_id", "is_early", "run", "start_ns", "status", "stream",
        "wants_early",
    )  # fmt: skip

    def __init__(self, edge: Edge, client: Client, request: Request) -> None:
        self._edge = edge
        self._client = client
        self._request = request
        self._entry: Entry | None = None
        self._is_asked_on = not request.head.expects_continue
        self._replied_at = self._tunnel_at = math.inf
        self._sent_bytes = self._held_status = 0
        self.call_id = b""
        self.start_ns = 0
        self.status = CLIENT_LEFT
        self.stream: Stream | None = None
        self.run: Run | None = None
        self.is_early = self.wants_early = False

    def belongs_to(self, entry: Entry) -> None:
        """It is this function's answer."""
        self._entry = entry
        early = entry.options.has_early_head
        head = self._request.head
        can_have = head.method != b"HEAD" and not head.wants_websocket
        self.wants_early = can_have and (self._request.wants_events if early is None else early)

    @property
    def is_head_sent(self) -> bool:
        return self.stream is not None and self.stream.is_head_sent

    @property
    def sent_bytes(self) -> int:
        """Bytes of the body given to the client, without framing."""
        return self._sent_bytes if self.stream is None else self.stream.sent_bytes

    def move(self, client: Client) -> None:
        """Somebody else is told from now on."""
        self._client = client
        if self.stream is not None:
            self.stream.move(client.transport)

    def begin_tunnel(self) -> None:
        """The client is told 101; what follows goes past here."""
        self.status = 101
        self._tunnel_at = self._edge.clock()
        if self._entry is not None:
            self._entry.numbers.open_streams += 1

    def end_tunnel(self, sent_bytes: int) -> None:
        """It is over, and this many bytes went to the client."""
        self._sent_bytes = sent_bytes

    def call_lines(self) -> bytes:
        """The edge's own lines in a function's answer."""
        if not self.call_id:
            return b""
        return b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (self.call_id, self.start_ns)

    def fits(self, reply: Reply) -> bool:
        """Whether this reply can follow what was sent: after an early head only an event stream can."""
        head = reply.head
        return not self.is_early or (
            head.status == 200
            and head.content_type.lower().startswith(b"text/event-stream")
            and not head.get(b"content-encoding")
        )

    def send_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once, as small ones come."""
        has_body = reply.head.has_body(self._request.head.method)
        self._client.write(self._head(reply, has_body=has_body, is_chunked=False) + body)
        self.status = reply.head.status
        self._sent_bytes = len(body)

    def begin(self, reply: Reply) -> Stream:
        """The head of an answer whose body follows: it is sent with the first byte, or on its clock."""
        head, stream = reply.head, self.stream
        self._replied_at = self._edge.clock()
        if stream is None:
            is_http11, is_unsized = self._request.head.is_http11, head.content_length is None
            if is_unsized and not is_http11:
                self._client.keep_alive = False
            is_chunked = is_unsized and is_http11
            first = self._head(reply, has_body=True, is_chunked=is_chunked)
            stream = self._open_stream(first, is_chunked=is_chunked)
            self._held_status = head.status
        stream.read_dialect(head, self._entry.options.dialect if self._entry else None)
        if isinstance(stream, RecordedStream):
            stream.begin(reply)
        return stream

    def _head(self, reply: Reply, *, has_body: bool, is_chunked: bool) -> bytes:
        connection = b"" if self._request.head.is_http11 else b"Connection: keep-alive\r\n"
        if not self._client.keep_alive:
            connection = b"Connection: close\r\n"
        kind = has_body, is_chunked, bool(self.call_id)
        return reply.to_client(kind, self._edge.date(), self.call_lines(), connection)

    def _open_stream(self, first: bytes, *, is_chunked: bool) -> Stream:
        numbers = self._entry.numbers if self._entry else None
        if numbers is not None:
            numbers.open_streams += 1
        edge, transport, run = self._edge, self._client.transport, self.run
        if run is None:
            stream = Stream(
                edge.outbox, transport, first, is_chunked=is_chunked, clock=edge.clock, numbers=numbers
            )
        else:
            stream = RecordedStream(
                run, edge.outbox, transport, first, is_chunked=is_chunked, clock=edge.clock, numbers=numbers
            )
        self.stream = stream
        return stream

    # For a caller that waits.

    def ask_on(self) -> None:
        """Ask for the body if the client waits for that: once, and never behind the answer's own head."""
        if not self._is_asked_on and not self.is_head_sent:
            self._is_asked_on = True
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def tell_state(self, state: str, hold_s: float) -> None:
        """Tell a caller that asked for it what its call waits for."""
        has_status = self._entry is not None and self._entry.options.has_status
        if self.stream is None and (has_status or not hold_s):
            self._send_early_head()
        if has_status and self.stream is not None:
            self.stream.send_status(state)

    def _send_early_head(self) -> None:
        """The caller waits for an event stream: let it have the head of one, and heartbeats from now on."""
        if self._request.has_body:
            self.ask_on()
        is_http11 = self._request.head.is_http11
        keep_alive = self._client.keep_alive = self._client.keep_alive and is_http11
        first = early_head(self.call_lines(), self._edge.date(), is_chunked=is_http11, keep_alive=keep_alive)
        stream = self._open_stream(first, is_chunked=is_http11)
        stream.await_dialect(self._entry.options.dialect if self._entry else None)
        self.is_early = True
        self.status = 200
        stream.last_beat_at = self._edge.clock()
        stream.send_head()

    def show_life(self, began_at: float, now: float, *, hold_s: float, heartbeat_s: float) -> float:
        """Send a head that was held long enough, or a heartbeat; when the next is due."""
        stream = self.stream
        if stream is None:
            at = began_at + hold_s if self.wants_early else math.inf
            if now < at:
                return at
            self._send_early_head()
            return now + heartbeat_s
        if not stream.is_head_sent:
            at = self._replied_at + hold_s
            if now < at:
                return at
            stream.last_beat_at = now
            stream.send_head()
        return stream.beat_by(now, heartbeat_s)

    # The ends.

    def fail(self, error: TailraceError, *, keep_alive: bool) -> bool:
        """Tell an error: as a real status while nothing was sent, else as the stream can tell it.

        Args:
            keep_alive: Whether the connection can take another request after a real status.
        Returns:
            False when the client can only be told by a cut.
        """
        client, stream, call_id = self._client, self.stream, self.call_id.decode()
        if stream is None or not stream.is_head_sent:
            self.status = error.http_status
            if self.run is not None:
                self.run.refused_status = error.http_status
            client.keep_alive = client.keep_alive and keep_alive
            reply = error_reply(error, self._request, call_id, self._edge.date(), client.keep_alive)
            self._sent_bytes = len(reply.partition(b"\r\n\r\n")[2])
            client.write(reply)
            return True
        client.keep_alive = False
        return stream.fail(error.code, error.message, call_id)

    def account(self, reason: str, began_at: float, *, is_done: bool) -> None:
        """Count and log the call that this was the answer to."""
        edge, entry, stream = self._edge, self._entry, self.stream
        now, tunnel_at = edge.clock(), self._tunnel_at
        first_at = now if is_done else math.inf
        if stream is not None and stream.is_head_sent and self._held_status:
            self.status = self._held_status
        if stream is not None:
            first_at = stream.first_content_at
        elif tunnel_at != math.inf:
            first_at = tunnel_at
        if entry is not None:
            if stream is not None or tunnel_at != math.inf:
                entry.numbers.open_streams -= 1
            if first_at != math.inf and tunnel_at == math.inf:  # a websocket's bytes are not looked at
                entry.numbers.first_content.observe(first_at - began_at)
        seconds = first_at - began_at, now - began_at
        edge.account(entry, self._request, self.call_id, self.status, reason, self.sent_bytes, seconds)
