"""A run that goes on elsewhere, or is over, read from JetStream into a log that its viewers here share.

What is written is heard as it is published, and read from the stream where a number is missing, so a
message that NATS did not bring costs a moment and no event.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time

import nats.errors

from tailrace.errors import RunsUnavailable
from tailrace.runs.log import Log
from tailrace.runs.marks import End, Head
from tailrace.runs.pieces import Unpacker
from tailrace.runs.record import Record
from tailrace.runs.store import Store, event_subject
from tailrace.runs.tasks import end_tasks

logger = logging.getLogger(__name__)

# Without a message for so long the stream itself is asked: something may have been missed at its end.
LISTEN_S = 1.0
# After the end of a run its last events may still be on their way to the server that is asked.
SETTLE_TRIES = 3
GAP = "run_incomplete"
# How long JetStream may be silent before viewers are told, and how often it is tried meanwhile.
PATIENCE_S = 30.0
AGAIN_S = 0.25


class Feed:
    """Fills ``log`` until it has an end. Owned by whoever made it, who closes it.

    ``record`` is the run's as it was at the beginning.
    """

    def __init__(self, store: Store, record: Record) -> None:
        self.record = record
        self.log = Log()
        self.viewers = 0
        self._store = store
        self._run = record.id
        self._unpacker = Unpacker()
        self._place = 1
        self._task = asyncio.get_running_loop().create_task(self._fill())

    async def aclose(self) -> None:
        """Stop reading."""
        await end_tasks((self._task,))

    async def _fill(self) -> None:
        try:
            await self._listen_patiently()
        except RunsUnavailable as failed:
            self._break(failed.code, failed.message)
        except Exception:
            logger.exception("reading run %s failed", self._run)
            why = "the gateway failed to read the run; its log says why"
            self._break("platform_failed", why)

    async def _listen_patiently(self) -> None:
        """Go on where JetStream has answered last, until it has not for too long."""
        until = math.inf
        while True:
            before = len(self.log.pieces)
            try:
                await self._listen()
            except RunsUnavailable:
                now = time.monotonic()
                if until == math.inf or len(self.log.pieces) > before:
                    until = now + PATIENCE_S
                if now >= until:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _listen(self) -> None:
        client = self._store.client
        heard = await client.subscribe(event_subject(self._run))
        try:
            await client.flush()
            await self._catch_up()
            tries = 0
            while self.log.end is None:
                try:
                    message = await heard.next_msg(timeout=LISTEN_S)
                except (TimeoutError, nats.errors.TimeoutError):
                    await self._catch_up()
                    tries = await self._look_at_record(tries)
                    continue
                if not self._take(message.data):
                    await self._catch_up()
        except nats.errors.Error as failed:
            raise RunsUnavailable(f"the run cannot be followed: NATS: {failed}") from failed
        finally:
            try:
                await heard.unsubscribe()
            except nats.errors.Error as failed:
                logger.debug("unsubscribing from run %s: %s", self._run, failed)

    async def _catch_up(self) -> None:
        """Read what is recorded and not here yet."""
        async for kept in self._store.read_events(self._run, self._place):
            if not self._take(kept.data):
                gap = f"events of the run are gone: number {self._unpacker.seq + 1} and some after it"
                self._end(End(len(self.log.pieces), GAP, gap, is_partial=True))
                return
            self._place = kept.place + 1

    async def _look_at_record(self, tries: int) -> int:
        """End with the record of a run whose end was not recorded among its events."""
        record = await self._store.find_record(self._run)
        if record is not None and not record.is_over and not record.unrecorded:
            return 0
        if tries < SETTLE_TRIES:
            return tries + 1
        self._end(end_of(record, len(self.log.pieces)))
        return tries

    def _take(self, data: bytes) -> bool:
        """Whether it could be used; False: something before it is missing."""
        try:
            told = self._unpacker.feed(data)
        except ValueError as bad:
            logger.warning("run %s: %s", self._run, bad)
            return True
        if told is None:
            return False
        log = self.log
        if isinstance(told, Head):
            log.head = told
        elif isinstance(told, End):
            if told.events > len(log.pieces):
                return False
            log.end = told
        elif told:
            log.end = None  # the gateway was taken for dead: that end was none
            for piece in told:
                log.add(piece)
        log.wake()
        return True

    def _break(self, code: str, message: str) -> None:
        """End the reading: who comes back reads on."""
        self._end(End(len(self.log.pieces), code, message, is_partial=True, is_passing=True))

    def _end(self, end: End) -> None:
        self.log.end = end
        self.log.wake()


def end_of(record: Record | None, events: int) -> End:
    """How a run is told to have ended that has a record alone."""
    if record is None or record.expired_at is not None:
        return End(events, "run_expired", "the run's events are no longer kept", is_partial=True)
    if record.unrecorded:
        return End(events, "run_unrecorded", record.unrecorded, is_partial=True)
    if record.state == "done":
        return End(events, is_partial=record.is_truncated or record.events > events)
    return End(events, record.end_reason, record.error)
