"""Runs of the queue: they exist before anybody runs them, and may be tried several times, anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailrace.errors import NotFound, RunStopped
from tailrace.runs.journal import Journal
from tailrace.runs.marks import End, Head, pack_end, pack_head
from tailrace.runs.pieces import Unpacker, pack_pieces
from tailrace.runs.record import Record, State, encode_record
from tailrace.runs.store import Store, event_subject, record_subject

# What this gateway has not written yet of the last try is waited for so long.
FLUSH_S = 2.0


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is there already of a call of the queue that is tried again."""

    record: Record
    pieces: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is not in its run: the function asked to be tried again, and is not any more.

    ``body`` is at most what one piece may have: 512 KiB.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Tries:
    """What the queue says of its calls, beside asking the edge to make them."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def enqueue(self, run: str, function: str, key: str = "") -> None:
        """Note a call that waits in the queue, unless it has begun already.

        Args:
            key: The claim of its idempotency key; empty without one.
        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        record = Record(run, function, "queued", time.time(), is_async=True, key=key)
        await self._store.create_record(record)

    async def earlier(self, run: str, function: str) -> Earlier:
        """What earlier tries have left of a run: its record, waiting again, and its pieces.

        Raises:
            RunStopped: it is over; it must not be tried again.
            RunsUnavailable: JetStream does not answer.
        """
        await self._journal.flush(FLUSH_S)
        record = await self._store.find_record(run)
        if record is None:
            return Earlier(Record(run, function, "queued", time.time(), is_async=True, tries=1), ())
        if record.is_over:
            raise RunStopped(f"run '{run}' is over: {record.state}")
        unpacker, pieces = Unpacker(), list[bytes]()
        async for kept in self._store.read_events(run):
            told = unpacker.feed(kept.data)
            pieces += told if isinstance(told, list) else []
        waiting = record.moved("queued", end_reason="", error="", is_async=True, tries=record.tries + 1)
        return Earlier(waiting, pieces)

    async def settled(self, run: str) -> Record | None:
        """A run's record after a try that was made here, once all of it is written; None: there is none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        await self._journal.flush(FLUSH_S)
        return await self._store.find_record(run)

    async def give_up(self, run: str, reason: str, error: str, answer: Answer | None = None) -> Record:
        """End a run that is tried no more; its record. One that is over stays as it is.

        Args:
            answer: What the function said last, where that is not in the run.
        Raises:
            NotFound: there is none.
            RunsUnavailable: JetStream does not answer.
        """
        record = await self.settled(run)
        if record is None:
            raise NotFound(f"there is no run '{run[:40]}'")
        if record.is_over:
            return record
        if answer is not None:
            pieces = [answer.body] if answer.body else []
            head = pack_head(Head(answer.status, list(answer.headers)))
            for message in (head, *pack_pieces(record.events + 1, pieces)):
                await self._store.publish(event_subject(run), message)
            size, events = record.bytes + len(answer.body), record.events + len(pieces)
            record = replace(record, status=answer.status, bytes=size, events=events)
        return await self.end(record, "failed", reason, error)

    async def reopen(self, run: str, function: str, created_at: float) -> bool:
        """Have a run that has failed, maybe long ago, wait again as if nothing had been tried.

        Returns:
            False where that was done by somebody else, and the run goes on again or is done.
        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        store = self._store
        place = await store.last_place(record_subject(run))
        record = await store.find_record(run)
        if record is not None and (record.state == "done" or (record.gateway and not record.is_over)):
            return False
        last = await store.last_place(event_subject(run))
        key = record.key if record is not None else ""
        waiting = Record(run, function, "queued", created_at, is_async=True, key=key)
        if not await store.replace_record(waiting, place):
            return False
        if last:
            await store.purge_events(run, last)
        return True

    async def end(self, record: Record, state: State, reason: str, error: str) -> Record:
        """End a run that nobody runs now, and tell its viewers."""
        ended = record.moved(state, ended_at=time.time(), end_reason=reason, error=error, gateway="")
        await self._store.publish(record_subject(record.id), encode_record(ended))
        await self._store.publish(event_subject(record.id), pack_end(End(record.events, reason, error)))
        return ended
