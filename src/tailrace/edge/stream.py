"""A function's answer on its way to one client: framing, dialect, heartbeats, and how it ends.

Whole chunks are forwarded as they stand. Only a stream whose dialect can tell of a failure is looked at,
and only as far as needed to keep a frame of ours from landing inside an event.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import Final

from tailrace.edge.numbers import FunctionNumbers
from tailrace.edge.outbox import Outbox
from tailrace.options import DialectName
from tailrace.wire.dialects import (
    TELLING,
    Dialect,
    count_content,
    dialect_of_event,
    dialect_of_head,
    failure_frames,
    heartbeat,
    is_one_line,
    status_frame,
    whole_events,
)
from tailrace.wire.heads import ResponseHead

# A first event longer than this does not tell its dialect; an unfinished event longer than this is sent
# on, and the stream can then only be cut.
UNFINISHED_LIMIT = 64 * 1024
_ID: Final = re.compile(rb"(?:^|[\r\n])id:")
_CUT_ID: Final = re.compile(rb"[\r\n]id:")


class Stream:
    """Writes one response body to a client's transport. Owns neither the transport nor its end.

    Attributes:
        is_chunked: False: the bytes go out as they are.
        is_events: Whether it is an event stream, so that heartbeats may stand in it.
        is_head_sent: Whether the client has its head; it waits for the first byte.
        last_at: When the function's last byte came, monotonic seconds; infinite before the first.
        first_content_at: When the first event that carries data came; infinite before it.
        sent_bytes: Bytes of the body given to the client, without framing.
    """

    __slots__ = (
        "_clock", "_dialect", "_ending", "_first", "_has_ids", "_is_between", "_is_flowing", "_numbers",
        "_outbox", "_seen", "_tail", "_transport", "first_content_at", "is_chunked", "is_events",
        "is_head_sent", "last_at", "last_beat_at", "last_content_at", "sent_bytes",
    )  # fmt: skip

    def __init__(
        self,
        outbox: Outbox,
        transport: asyncio.Transport,
        first: bytes,
        *,
        is_chunked: bool,
        clock: Callable[[], float],
        numbers: FunctionNumbers | None,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._first = first  # the head to the client, until its body is about to follow: one write for both
        self._clock = clock
        self._numbers = numbers
        self.is_chunked = is_chunked
        self.is_events = False
        self.is_head_sent = False
        self.last_at = math.inf
        self.first_content_at = math.inf
        self.last_content_at = math.inf
        self.last_beat_at = 0.0
        self.sent_bytes = 0
        self._dialect: Dialect | None = Dialect.PLAIN
        self._has_ids = False
        self._is_flowing = False
        self._ending = b""  # the last bytes that were sent
        self._is_between = True  # whether what was sent ends where an event ends
        self._seen = b""  # the first event as far as it came, while the dialect is not known
        self._tail = bytearray()  # an unfinished event, held back until it is whole

    def read_dialect(self, head: ResponseHead, wished: DialectName | None) -> None:
        """Take the dialect from the function's head, or from its annotation where that speaks of streams."""
        if head.content_length is not None and not self.is_head_sent:
            return  # a sized body has no room for a frame of ours: the only truth left is a cut
        found = dialect_of_head(head)
        self._dialect = Dialect(wished) if wished and found is not Dialect.PLAIN else found
        self.is_events = self._dialect not in (Dialect.PLAIN, Dialect.NDJSON)

    def await_dialect(self, wished: DialectName | None) -> None:
        """An event stream whose function has not answered yet."""
        self._dialect = Dialect(wished) if wished else None
        self.is_events = True

    @property
    def dialect_name(self) -> str:
        """The dialect as annotations name it; empty while it is not known."""
        return self._dialect.value if self._dialect is not None else ""

    def move(self, transport: asyncio.Transport) -> None:
        """Write to another transport from now on."""
        self._transport = transport

    def send(self, body: bytes, whole: bytes | None) -> None:
        """Forward a piece now, except for the beginning of an event that is not finished."""
        self.last_at = now = self._clock()
        if self._is_flowing and whole is not None and body.endswith(b"\n\n"):
            # The common case: a stream in full flow, and whole events in a whole chunk.
            self.sent_bytes += len(body)
            if is_one_line(body):
                self._count(1, now)
            else:
                self._count_whole(body, now)
            self._outbox.put(self._transport, whole)
            return
        if self._dialect is None:
            body, whole = self._detect(body, whole)
        elif self._dialect in TELLING:
            body, whole = self._hold_back(body, whole)
        if self.is_events:
            if body:
                self._look_at(body, now)
        elif self.first_content_at == math.inf:
            self.first_content_at = now
        self._write(body, whole)
        self._is_flowing = (
            self.is_events and self.is_chunked and self._dialect is not None and not self._tail
            and self._is_between and self.first_content_at != math.inf
        )  # fmt: skip

    def _look_at(self, body: bytes, now: float) -> None:
        """Remember how what is about to be sent ends, and count its events."""
        before, self._ending = self._ending, (self._ending + body[-4:])[-4:]
        self._is_between = self._ending.endswith((b"\n\n", b"\n\r\n", b"\r\r"))
        if before and _CUT_ID.search(before + body[:3]):
            self._has_ids = True  # the line was cut in two
        is_first = self.first_content_at == math.inf
        events = count_content(self._dialect, body, is_first=is_first)
        if events and is_first:
            self.first_content_at = now
        self._count(events, now)
        self._look_for_ids(body)

    def _count_whole(self, body: bytes, now: float) -> None:
        """Count events of a stream in full flow, none of which is cut."""
        is_plain = body.startswith(b"data:") and b"\n:" not in body and b"\nevent:" not in body
        events = body.count(b"\n\n") if is_plain else count_content(self._dialect, body, is_first=False)
        self._count(events, now)
        self._look_for_ids(body)

    def _count(self, events: int, now: float) -> None:
        numbers = self._numbers
        if events:
            if numbers is not None:
                numbers.events += events
                if self.last_content_at != math.inf:
                    numbers.event_gap.observe(now - self.last_content_at)
            self.last_content_at = now

    def _look_for_ids(self, body: bytes) -> None:
        if b"id:" in body and _ID.search(body):
            self._has_ids = True

    def _write(self, body: bytes, whole: bytes | None) -> None:
        self.sent_bytes += len(body)
        if self.is_chunked and body:
            body = whole or b"%x\r\n%b\r\n" % (len(body), body)
        if not self.is_head_sent:
            self.is_head_sent = True
            body = self._first + body
            self._first = b""
        if body:
            self._outbox.put(self._transport, body)

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

    def _hold_back(self, body: bytes, whole: bytes | None) -> tuple[bytes, bytes | None]:
        """What of body may be sent: all up to the end of its last whole event."""
        tail = self._tail
        if not tail and body.endswith(b"\n" if self._dialect is Dialect.NDJSON else b"\n\n"):
            return body, whole
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

    # What the platform adds, only between complete events.

    def send_head(self) -> None:
        """Send the head now, without waiting for a first byte."""
        if not self.is_head_sent:
            self._write(b"", None)

    def send_status(self, state: str) -> None:
        """Tell a waiting client what its call waits for."""
        self._write(status_frame(state), None)

    def beat_by(self, now: float, heartbeat_s: float) -> float:
        """Send a heartbeat if the stream was silent for so long; when the next one is due."""
        if not self.is_events:
            return math.inf
        silent_since = max(self.last_beat_at, self.last_at if self.last_at != math.inf else 0.0)
        if now < silent_since + heartbeat_s:
            return silent_since + heartbeat_s
        self.last_beat_at = now
        if self._is_between and not self._seen:
            self._write(heartbeat(carries_ids=self._has_ids), None)
        return now + heartbeat_s

    def end(self) -> None:
        """The function ended its answer: what was held back is its own, then the last chunk."""
        if self._tail or not self.is_head_sent:
            tail, self._tail = bytes(self._tail), bytearray()
            self._write(tail, None)
        if (
            self._dialect is Dialect.NATIVE
            and self._numbers is not None
            and self.first_content_at != math.inf
        ):
            self._numbers.events -= 1  # the event that says that this was all
        if self.is_chunked:
            self._outbox.put(self._transport, b"0\r\n\r\n")

    def fail(self, code: str, message: str, call_id: str) -> bool:
        """Tell the failure in the stream's dialect, dropping an unfinished event; False: it must be cut."""
        dialect = self._dialect
        if dialect not in TELLING and not (dialect is None and self.last_at == math.inf):
            return False
        self._write(failure_frames(dialect, code, message, call_id), None)
        if self.is_chunked:
            self._outbox.put(self._transport, b"0\r\n\r\n")
        return True
