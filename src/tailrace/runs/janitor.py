"""Deletes what has been kept long enough, and closes the runs of gateways that have died.

Every gateway does it, driven by the records; doing it twice does no harm. A record is replaced only where
nobody has written a newer one, and what is deleted is what was there when the record was the newest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from tailrace.runs.marks import End, pack_end
from tailrace.runs.pieces import Unpacker
from tailrace.runs.record import REPLICA_LOST, Record
from tailrace.runs.store import Store, event_subject, record_subject

logger = logging.getLogger(__name__)

LOST = "the gateway that ran it died, and the function's replica with it; what was recorded is kept"


class Janitor:
    """Goes over all records.

    Args:
        keep_s: How long events are kept after the end: of a call that was waited for, of one of the queue.
        is_alive: Whether the gateway of this name runs.
    """

    def __init__(
        self, store: Store, keep_s: Callable[[], tuple[float, float]], is_alive: Callable[[str], bool]
    ) -> None:
        self._store = store
        self._keep_s = keep_s
        self._is_alive = is_alive

    async def sweep(self) -> int:
        """Close what is orphaned and delete what has expired; how many runs were closed.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        now, closed = time.time(), 0
        async for place, record in self._store.every_record():
            if record.is_over:
                at = record.expires_at(*self._keep_s())
                if at is not None and now >= at:
                    await self._expire(place, record, now)
            elif record.gateway and not self._is_alive(record.gateway):
                closed += await self._close(place, record, now)
        return closed

    async def _expire(self, place: int, record: Record, now: float) -> None:
        """Delete its events; the record stays as a mark, so that nobody starts the run anew."""
        store = self._store
        last = await store.last_place(event_subject(record.id))
        if await store.last_place(record_subject(record.id)) != place:
            return  # a dead letter that is tried again; or somebody else was faster
        if last:
            await store.purge_events(record.id, last)
        if record.key:
            await store.release_claim(record.key, record.id)
        await store.replace_record(replace(record, expired_at=now), place)

    async def _close(self, place: int, record: Record, now: float) -> bool:
        """End the run of a dead gateway, with what was recorded of it; whether nobody else has."""
        unpacker, end, size = Unpacker(), None, 0
        async for kept in self._store.read_events(record.id):
            told = unpacker.feed(kept.data)
            end = told if isinstance(told, End) else end
            size += sum(map(len, told)) if isinstance(told, list) else 0
        size = max(size, record.bytes)
        if record.is_async:  # the queue hands it out again, or gives it up
            waiting = record.moved(
                "queued", end_reason=REPLICA_LOST, events=unpacker.seq, bytes=size, gateway=""
            )
            return await self._store.replace_record(waiting, place)
        lost = record.moved(
            "failed", ended_at=now, end_reason=REPLICA_LOST, error=LOST, events=unpacker.seq, bytes=size,
            gateway="",
        )  # fmt: skip
        if not await self._store.replace_record(lost, place):
            return False
        if end is None:
            end = End(unpacker.seq, REPLICA_LOST, LOST, is_partial=True)
            await self._store.publish(event_subject(record.id), pack_end(end))
        logger.warning("run %s of %s is closed: its gateway has died", record.id, record.function)
        return True
