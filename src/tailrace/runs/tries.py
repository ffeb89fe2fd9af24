"""Runs of the queue: they exist before anybody runs them, and may be tried several times, anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.errors import NotFound, RunStopped
from tailrace.runs.journal import Journal
from tailrace.runs.marks import End, pack_end
from tailrace.runs.pieces import Unpacker
from tailrace.runs.record import Record, State, encode_record
from tailrace.runs.store import Store, event_subject, record_subject

# What this gateway has not written yet of the last try is waited for so long.
FLUSH_S = 2.0


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is there already of a call of the queue that is tried again."""

    record: Record
    pieces: Sequence[bytes]


class Tries:
    """What the queue says of its calls, beside asking the edge to make them."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def enqueue(self, run: str, function: str) -> None:
        """Note a call that waits in the queue.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        record = Record(run, function, "queued", time.time(), is_async=True)
        await self._store.publish(record_subject(run), encode_record(record))

    async def earlier(self, run: str, function: str) -> Earlier:
        """What earlier tries have left of a run: its record, waiting again, and its pieces.

        Raises:
            RunStopped: it is over; it must not be tried again.
            RunsUnavailable: JetStream does not answer.
        """
        await self._journal.flush(FLUSH_S)
        record = await self._store.find_record(run)
        if record is None:
            return Earlier(Record(run, function, "queued", time.time(), is_async=True), ())
        if record.is_over:
            raise RunStopped(f"run '{run}' is over: {record.state}")
        unpacker, pieces = Unpacker(), list[bytes]()
        async for kept in self._store.read_events(run):
            told = unpacker.feed(kept.data)
            pieces += told if isinstance(told, list) else []
        return Earlier(record.moved("queued", end_reason="", error="", is_async=True), pieces)

    async def give_up(self, run: str, reason: str, error: str) -> Record:
        """End a run that is tried no more; its record. One that is over stays as it is.

        Raises:
            NotFound: there is none.
            RunsUnavailable: JetStream does not answer.
        """
        await self._journal.flush(FLUSH_S)
        record = await self._store.find_record(run)
        if record is None:
            raise NotFound(f"there is no run '{run[:40]}'")
        return record if record.is_over else await self.end(record, "failed", reason, error)

    async def end(self, record: Record, state: State, reason: str, error: str) -> Record:
        """End a run that nobody runs now, and tell its viewers."""
        ended = record.moved(state, ended_at=time.time(), end_reason=reason, error=error, gateway="")
        await self._store.publish(record_subject(record.id), encode_record(ended))
        await self._store.publish(event_subject(record.id), pack_end(End(record.events, reason, error)))
        return ended
