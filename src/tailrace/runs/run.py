"""A run on the gateway that runs it: what its call tells, what is recorded, who watches, when it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from tailrace.errors import TailraceError
from tailrace.runs.journal import Journal
from tailrace.runs.log import RUN_LIMIT, Log
from tailrace.runs.marks import End, Head, pack_end, pack_head
from tailrace.runs.pieces import MESSAGE_LIMIT, Splitter, pack_piece, pack_pieces
from tailrace.runs.policy import Attendance, Policy
from tailrace.runs.record import Record, State, encode_record
from tailrace.runs.store import event_subject, record_subject
from tailrace.runs.usage import find_usage
from tailrace.wire.dialects import Dialect, count_content, is_one_line

TRUNCATED = "run_truncated"
UNRECORDED = "run_unrecorded"


class Runner(Protocol):
    """The call behind a run."""

    def end(self, error: TailraceError, reason: str) -> None:
        """End it, as truthfully as its state allows."""

    def abandon(self) -> None:
        """Nobody is left who watches it: end it as a call whose client has left."""


class Run:
    """One run that is going on here.

    Attributes:
        log: What viewers read. Its ``end`` is set when nothing more is recorded, which may be before the
            run's own end.
        is_recording: Whether pieces are still kept.
        content: Events kept that carry data of the answer.
        refused_status: What its first client was told in the place of the function's head; 0: nothing.
    """

    __slots__ = (
        "_dialect", "_head_version", "_is_counting", "_journal", "_offered", "_record_version", "_splitter",
        "_subject", "_written_pieces", "_written_rest", "attendance", "bytes", "call", "content",
        "first_content_at", "is_recording", "log", "policy", "record", "refused_status",
    )  # fmt: skip

    def __init__(
        self, record: Record, policy: Policy, journal: Journal | None, earlier: Sequence[bytes] = ()
    ) -> None:
        self.record = record
        self.policy = policy
        self.attendance = Attendance(policy)
        self.log = Log()
        self.call: Runner | None = None
        self.is_recording = True
        self.bytes = record.bytes
        self.content = 0
        self.refused_status = 0
        self.first_content_at: float | None = record.first_content_at
        self._journal = journal
        self._subject = event_subject(record.id)
        self._splitter: Splitter | None = None
        self._dialect: Dialect | None = None
        self._is_counting = False
        # What is acknowledged, and what was given to the journal last.
        # Pieces; the head's version, whether the end, the record's version.
        self._written_pieces = len(earlier)
        self._written_rest = (0, False, 0)
        self._offered = (len(earlier), 0, False, 0)
        for piece in earlier:
            self.log.add(piece)
        self._head_version = 0
        self._record_version = 1
        if record.unrecorded:
            self.stop_recording(UNRECORDED, record.unrecorded)

    @property
    def id(self) -> str:
        return self.record.id

    # What its call tells.

    def is_starting(self) -> None:
        """A replica has it."""
        self._move("starting", started_at=time.time(), attempts=self.record.attempts + 1)

    def begin(self, head: Head) -> None:
        """The function has answered with this head."""
        self.log.head = head
        self._splitter = Splitter(head.piece_kind)
        self._dialect = Dialect(head.dialect) if head.dialect else None
        self._is_counting = head.is_events
        self._head_version += 1
        self._move("streaming", status=head.status)
        self.log.wake()

    def name_dialect(self, dialect: str) -> None:
        """The dialect has shown itself."""
        head = self.log.head
        if head is not None and head.dialect != dialect:
            self.log.head = Head(head.status, head.headers, dialect)
            self._dialect = Dialect(dialect)
            self._head_version += 1
            self._put()

    def take(self, body: bytes) -> list[bytes]:
        """The next bytes of the answer; the pieces that they complete, in order."""
        self.bytes += len(body)
        assert self._splitter is not None
        pieces = self._splitter.feed(body)
        if pieces and self.is_recording:
            self._keep(pieces)
        return pieces

    def take_rest(self) -> bytes:
        """The function ended its answer itself: what has come of an unfinished event is its last piece."""
        rest = self._splitter.rest() if self._splitter is not None else b""
        if rest and self.is_recording:
            self._keep([rest])
        return rest

    @property
    def is_intact(self) -> bool:
        """Whether pieces are events still."""
        return self._splitter is not None and self._splitter.is_intact

    def _keep(self, pieces: list[bytes]) -> None:
        log = self.log
        self._count(pieces)
        for piece in pieces:
            if log.size + len(piece) > RUN_LIMIT:
                self.record = self.record.moved(self.record.state, is_truncated=True)
                self.stop_recording(TRUNCATED, f"only the first {RUN_LIMIT >> 20} MiB of a run are recorded")
                break
            log.add(piece)
        log.wake()
        self._put()

    def _count(self, pieces: list[bytes]) -> None:
        if self._is_counting:
            for piece in pieces:
                if self.content and is_one_line(piece):
                    self.content += 1  # the common case
                else:
                    self.content += count_content(self._dialect, piece, is_first=not self.content)
        if self.first_content_at is None and (self.content or not self._is_counting):
            self.first_content_at = time.time()

    def stop_recording(self, code: str, why: str) -> None:
        """Keep nothing more; those who watch what is kept are told why it ends there."""
        if self.is_recording:
            self.is_recording = False
            self.log.end = End(len(self.log.pieces), code, why, is_partial=True)
            self._record_version += 1
            self.log.wake()

    def end(self, state: State, reason: str, error: TailraceError | None) -> None:
        """It is over."""
        log, head = self.log, self.log.head
        if self.is_recording:
            self.is_recording = False
            code, message = (error.code, error.message) if error is not None else ("", "")
            log.end = End(len(log.pieces), code, message)
        usage = find_usage(log.pieces, self.content) if self._is_counting else None
        status = self.refused_status
        if error is not None and head is None:
            status = error.http_status
        self._move(
            state, ended_at=time.time(), end_reason=reason, error=error.message if error else "", usage=usage,
            bytes=self.bytes, events=len(log.pieces), first_content_at=self.first_content_at,
            status=status or self.record.status,
        )  # fmt: skip
        log.wake()

    def suspend(self, reason: str, error: TailraceError | None) -> None:
        """This try of a call of the queue is over; the run is not, unless the queue says so."""
        self.is_recording = False
        self._move(
            "queued", end_reason=reason, error=error.message if error else "", bytes=self.bytes, gateway="",
            events=len(self.log.pieces), first_content_at=self.first_content_at,
            status=0 if self.refused_status else self.record.status,
        )  # fmt: skip

    def say_again(self) -> None:
        """Others may have closed it, as that of a dead gateway: its record is to say that it goes on.

        One of the queue may be made by somebody else meanwhile.
        """
        if not self.record.is_over and not self.record.is_async:
            self._record_version += 1
            self._put()

    def snapshot(self) -> Record:
        """The record as it is now."""
        if self.record.is_over:
            return self.record
        return self.record.moved(
            self.record.state, bytes=self.bytes, events=len(self.log.pieces),
            first_content_at=self.first_content_at,
        )  # fmt: skip

    def _move(self, state: State, **changes: Any) -> None:
        self.record = self.record.moved(state, **changes)
        self._record_version += 1
        self._put()

    # What the journal writes.

    def _put(self) -> None:
        if self._journal is not None:
            self._journal.put(self)

    def outgoing(self) -> list[tuple[str, bytes]]:
        """What is not written yet, in order."""
        log, at = self.log, self._written_pieces
        pieces = len(log.pieces)
        offered = self._offered = pieces, self._head_version, log.end is not None, self._record_version
        if offered[1:] == self._written_rest and pieces == at + 1 and not self.record.unrecorded:
            piece = log.pieces[at]
            if len(piece) <= MESSAGE_LIMIT:
                return [(self._subject, pack_piece(pieces, piece))]  # the common case
        head, record = offered[1], offered[3]
        written_head, written_end, written_record = self._written_rest
        found = []
        if not self.record.unrecorded:
            if log.head is not None and head > written_head:
                found.append((self._subject, pack_head(log.head)))
            if pieces > at:
                found += [(self._subject, message) for message in pack_pieces(at + 1, log.pieces[at:])]
            if log.end is not None and not written_end:
                found.append((self._subject, pack_end(log.end)))
        if record > written_record:
            found.append((record_subject(self.id), encode_record(self.snapshot())))
        return found

    def written(self) -> None:
        """What was outgoing last is kept."""
        self._written_pieces = self._offered[0]
        self._written_rest = self._offered[1:]

    def give_up(self, why: str) -> None:
        """Nothing of its events can be kept any more; its record says so, when it can be written."""
        if not self.record.unrecorded and not self.is_written:
            self.record = self.record.moved(self.record.state, unrecorded=why)
            self.stop_recording(UNRECORDED, why)

    @property
    def is_written(self) -> bool:
        """Whether all that has come of it so far is acknowledged."""
        log = self.log
        return self._written_pieces == len(log.pieces) and self._written_rest[1] == (log.end is not None)

    @property
    def is_settled(self) -> bool:
        """Whether it is over, and its record is acknowledged."""
        return self.record.is_over and self._written_rest[2] == self._record_version
