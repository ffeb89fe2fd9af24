"""A function's answer on its way to one client: framing, dialect, and how it ends.

Whole chunks are forwarded as they stand. Only a stream whose dialect can tell of a failure is looked at,
and only as far as needed to keep an error frame from landing inside an event.
"""

from __future__ import annotations

import asyncio

from tailrace.edge.outbox import Outbox
from tailrace.options import DialectName
from tailrace.wire.dialects import (
    TELLING,
    Dialect,
    dialect_of_event,
    dialect_of_head,
    failure_frames,
    whole_events,
)
from tailrace.wire.heads import ResponseHead

# A first event longer than this does not tell its dialect; an unfinished event longer than this is sent
# on, and the stream can then only be cut.
UNFINISHED_LIMIT = 64 * 1024


class Stream:
    """Writes one response body to a client's transport.

    Owns neither the transport nor its end. ``is_chunked`` False: the bytes go out as they are.
    """

    __slots__ = ("_dialect", "_first", "_outbox", "_seen", "_tail", "_transport", "is_chunked")

    def __init__(
        self,
        outbox: Outbox,
        transport: asyncio.Transport,
        head: ResponseHead,
        first: bytes,
        *,
        is_chunked: bool,
        wished: DialectName | None,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._first = first  # the head to the client, when its body is about to follow: one write for both
        self.is_chunked = is_chunked
        # A sized body has no room for a frame of ours: the only truth left is a cut.
        self._dialect: Dialect | None = Dialect.PLAIN
        if head.content_length is None:
            found = dialect_of_head(head)
            # The annotation speaks of the function's streams, not of its plain answers.
            self._dialect = Dialect(wished) if wished and found is not Dialect.PLAIN else found
        self._seen = b""  # the first event as far as it came, while the dialect is not known
        self._tail = bytearray()  # an unfinished event, held back until it is whole

    def send(self, body: bytes, whole: bytes | None) -> None:
        """Forward a piece now, except for the beginning of an event that is not finished."""
        if self._dialect is None:
            body, whole = self._detect(body, whole)
        elif self._dialect in TELLING and (self._tail or not body.endswith(b"\n\n")):
            body, whole = self._hold_back(body)
        self._write(body, whole)

    def _write(self, body: bytes, whole: bytes | None) -> None:
        if self._first:
            framed = (whole or b"%x\r\n%b\r\n" % (len(body), body)) if self.is_chunked and body else body
            self._outbox.put(self._transport, self._first + framed)
            self._first = b""
        elif not body:
            pass
        elif not self.is_chunked:
            self._outbox.put(self._transport, body)
        elif whole is not None:
            self._outbox.put(self._transport, whole)
        else:
            self._outbox.put(self._transport, b"%x\r\n%b\r\n" % (len(body), body))

    def _detect(self, body: bytes, whole: bytes | None) -> tuple[bytes, bytes | None]:
        """Look for the first event in what has come so far; what of body may be sent."""
        seen = self._seen + body
        complete = whole_events(None, seen)
        self._dialect = dialect_of_event(seen[:complete]) if complete else None
        if self._dialect is None and len(seen) - complete > UNFINISHED_LIMIT:
            self._dialect = Dialect.PASSTHROUGH
        self._seen = seen[complete:] if self._dialect is None else b""
        unfinished = len(seen) - complete
        if self._dialect not in TELLING or not unfinished:
            return body, whole
        # All before body was sent while nobody knew; the first event ends in body, so the rest lies in it.
        self._tail = bytearray(body[len(body) - unfinished :])
        return body[: len(body) - unfinished], None

    def _hold_back(self, body: bytes) -> tuple[bytes, bytes | None]:
        tail = self._tail
        overlap = bytes(tail[-3:])  # an event's end may be cut anywhere
        complete = whole_events(self._dialect, overlap + body) - len(overlap)
        if complete <= 0:
            tail += body
            if len(tail) <= UNFINISHED_LIMIT:
                return b"", None
            self._dialect = Dialect.PASSTHROUGH
            complete, body = len(tail), b""
        sent = bytes(tail) + body[:complete]
        self._tail = bytearray(body[complete:])
        return sent, None

    def end(self) -> None:
        """The function ended its answer: what was held back is its own, then the last chunk."""
        if self._tail or self._first:
            self._write(bytes(self._tail), None)
            self._tail.clear()
        if self.is_chunked:
            self._outbox.put(self._transport, b"0\r\n\r\n")

    def fail(self, code: str, message: str, call_id: str) -> bool:
        """Tell the failure in the stream's dialect, dropping an unfinished event; False: it must be cut."""
        if self._dialect not in TELLING:
            return False
        self._write(failure_frames(self._dialect, code, message, call_id), None)
        if self.is_chunked:
            self._outbox.put(self._transport, b"0\r\n\r\n")
        return True
