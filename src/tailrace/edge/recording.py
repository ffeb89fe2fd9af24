"""A stream whose pieces are kept while they go to the first client, and numbered where its dialect allows it.

The native dialect is the gateway's own, so its events get ``id: <run>-<seq>`` lines. All others pass as they
are: the OpenAI SDK, for one, fails on an id before a heartbeat.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from tailrace.edge.heads import Reply
from tailrace.edge.numbers import FunctionNumbers
from tailrace.edge.outbox import Outbox
from tailrace.edge.stream import Stream
from tailrace.runs.marks import Head
from tailrace.runs.run import Run
from tailrace.wire.dialects import Dialect, failure_frames
from tailrace.wire.heads import HOP_BY_HOP

# What each connection has of its own.
_NOT_KEPT = HOP_BY_HOP | {b"content-length", b"date", b"x-call-id", b"x-start-time"}


def head_of(reply: Reply, dialect: str) -> Head:
    """A reply's head as runs keep it."""
    kept = [
        (line.sent_name.decode("latin-1"), line.value.decode("latin-1"))
        for line in reply.head.lines
        if line.name not in _NOT_KEPT
    ]
    return Head(reply.head.status, kept, dialect)


class RecordedStream(Stream):
    """A stream to the first client of a run.

    Attributes:
        on_full: Asked after each piece while the client's buffer is full; None: it is not.
    """

    __slots__ = ("_id", "_is_native", "_run", "on_full")

    def __init__(
        self,
        run: Run,
        outbox: Outbox,
        transport: asyncio.Transport,
        first: bytes,
        *,
        is_chunked: bool,
        clock: Callable[[], float],
        numbers: FunctionNumbers | None,
    ) -> None:
        super().__init__(outbox, transport, first, is_chunked=is_chunked, clock=clock, numbers=numbers)
        self._run = run
        self._id = run.id.encode()
        self._is_native = False
        self.on_full: Callable[[], None] | None = None

    def begin(self, reply: Reply) -> None:
        """The function's head is known."""
        self._is_native = self._has_ids = self._dialect is Dialect.NATIVE
        self._run.begin(head_of(reply, self.dialect_name))

    def send(self, body: bytes, whole: bytes | None) -> None:
        """Forward a piece now, and keep it."""
        if self._is_native:
            self._send_native(body)
        else:
            is_known = self._dialect is not None
            super().send(body, whole)
            if not is_known and self._dialect is not None:
                self._run.name_dialect(self.dialect_name)
            self._run.take(body)
        if self.on_full is not None:
            self.on_full()

    def _send_native(self, body: bytes) -> None:
        """Whole events with their numbers; the beginning of one waits, as in every dialect that can tell."""
        run, pieces = self._run, self._run.log.pieces
        self.last_at = now = self._clock()
        seq, before = len(pieces), run.content
        found = run.take(body)
        if not found:
            return
        numbered = len(pieces) - seq
        if not run.is_intact:
            self._is_native, self._dialect, numbered = False, Dialect.PASSTHROUGH, 0
        self._count_native(run.content - before, now)
        if len(found) == 1 and numbered == 1:
            data = self._number(seq + 1, found[0])  # the common case
        else:
            first = [self._number(seq + at + 1, found[at]) for at in range(numbered)]
            data = b"".join(first + found[numbered:])
        self._write(data, None)

    def _count_native(self, events: int, now: float) -> None:
        numbers = self._numbers
        if events:
            if self.first_content_at == math.inf:
                self.first_content_at = now
            if numbers is not None:
                numbers.events += events
                if self.last_content_at != math.inf:
                    numbers.event_gap.observe(now - self.last_content_at)
            self.last_content_at = now

    def _number(self, seq: int, piece: bytes) -> bytes:
        return b"id: %b-%d\n%b" % (self._id, seq, piece)

    def end(self) -> None:
        """The function ended its answer: what was held back is its own."""
        seq = len(self._run.log.pieces)
        rest = self._run.take_rest()
        if rest and self._is_native:
            self._write(self._number(seq + 1, rest) if len(self._run.log.pieces) > seq else rest, None)
        super().end()

    def fail(self, code: str, message: str, call_id: str) -> bool:
        """Tell the failure; it is the event after the last one, so that who has seen it is told no more."""
        if self._is_native and self._run.is_recording:
            self._write(b"id: %b-%d\n" % (self._id, len(self._run.log.pieces) + 1), None)
        return super().fail(code, message, call_id)

    def drop(self, code: str, message: str, call_id: str) -> bool:
        """Tell a client that is too slow how to come back; False: it can only be cut."""
        dialect = self._dialect
        if dialect is None or dialect in (Dialect.PLAIN, Dialect.PASSTHROUGH):
            return False
        self._write(failure_frames(dialect, code, message, call_id), None)
        if self.is_chunked:
            self._outbox.put(self._transport, b"0\r\n\r\n")
        return True
