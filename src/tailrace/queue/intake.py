"""Takes calls in, and does what people ask of them: cancel, list, try a dead letter again, drop it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailrace.errors import KeyReused, NotFound, RunsUnavailable
from tailrace.queue.calls import INLINE_BYTES, DeadLetter, QueuedCall, Waiting
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.streams import Streams
from tailrace.runs.claims import Claim, judge
from tailrace.runs.keeper import Runs
from tailrace.runs.record import Record

logger = logging.getLogger(__name__)

# A call that begins in the moment of its cancellation is seen, and stopped, when it is looked at so often.
_LOOKS = 5


# Dead letters that are listed at once.
LIST_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """What waits, and what was given up: the oldest ones, and how many there are in all.

    Attributes:
        results: How many results wait to be delivered.
    """

    waiting: Sequence[Waiting]
    dead: Sequence[DeadLetter]
    dead_total: int
    results: int


class Intake:
    """The queue, as the control plane has it.

    Attributes:
        secret: What results are signed with.
        held_bytes: Bodies that are being taken in, all together.
    """

    def __init__(self, streams: Streams, runs: Runs, numbers: QueueNumbers, secret: bytes) -> None:
        self.streams = streams
        self.secret = secret
        self.held_bytes = 0
        self._runs = runs
        self._numbers = numbers

    async def claim(self, name: str, claim: Claim) -> str:
        """Take an idempotency key; the call that holds it: this one, or an earlier one that is kept.

        Raises:
            KeyReused: it came with another request before.
            RunsUnavailable: JetStream does not answer.
        """
        held = await self._runs.claim(name, claim)
        if held.run == claim.run:
            return claim.run
        if judge(held, claim.request_sha256) == "refuse":
            raise KeyReused(
                "this Idempotency-Key came with another request before; a new request needs a new key"
            )
        return held.run

    async def is_kept(self, run: str) -> bool:
        """Whether a call was kept. One whose gateway died before that is not, and may be kept again.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        return await self._runs.store.find_record(run) is not None or await self.streams.is_waiting(run)

    async def accept(self, call: QueuedCall, body: bytes, key: str = "") -> None:
        """Keep a call; it will be made, whatever is killed from now on.

        Args:
            key: The claim of its idempotency key; empty without one.
        Raises:
            RunsUnavailable: JetStream does not answer. It may have been kept all the same.
            Overloaded: as much waits as may.
        """
        call = replace(call, size=len(body))
        if len(body) > INLINE_BYTES:
            call = replace(call, pieces=await self.streams.keep_body(call.run, body))
        else:
            call = replace(call, body=body)
        await self.streams.add_call(call)
        self._numbers.queued += 1
        try:
            await self._runs.tries.enqueue(call.run, call.function, key)
        except RunsUnavailable as failed:  # it is kept; its record is written when it begins
            logger.warning("call %s is queued without a record: %s", call.run, failed.message)

    async def cancel(self, run: str) -> Record:
        """Stop a call: it never runs, or it ends; its record. One that is over stays as it is.

        Raises:
            NotFound: no call has this id.
            RunsUnavailable: JetStream, or the gateway that runs it, does not answer.
        """
        record = await self._runs.find(run)
        if not record.is_async:
            raise NotFound(f"'{run[:40]}' is no asynchronous call", hint="Stop it as a run: DELETE /run/ID")
        await self.streams.withdraw(run)
        for _ in range(_LOOKS):
            record = await self._runs.stop(run)
            again = await self._runs.find(run)
            if record.is_over and again.is_over:
                # Not before: whoever has it in hand would find no body, and a dead letter needs its own.
                if again.state == "cancelled":
                    await self.streams.drop_body(run)
                return again
        return record

    async def listing(self) -> Listing:
        """What waits and what was given up, all functions.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        waiting = [
            found async for found in self.streams.consumers.waiting() if found.pending or found.handed_out
        ]
        waiting.sort(key=lambda w: (w.queue, w.function))
        dead = await self.streams.list_dead(limit=LIST_LIMIT)
        return Listing(waiting, dead, await self.streams.count_dead(), await self.streams.count_results())

    async def dead(self, run: str) -> list[DeadLetter]:
        """A call's dead letters: its own, and that of its result's delivery.

        Raises:
            NotFound: there is none.
            RunsUnavailable: JetStream does not answer.
        """
        found = await self.streams.list_dead(run)
        if not found:
            raise NotFound(f"there is no dead letter of a call '{run[:40]}'", hint="See: tailrace queue list")
        return found

    async def retry(self, run: str) -> list[DeadLetter]:
        """Have what was given up of a call tried again; what that was.

        Raises:
            NotFound: there is no dead letter of it.
            RunsUnavailable: JetStream does not answer.
            Overloaded: as much waits as may.
        """
        found = await self.dead(run)
        for letter in found:
            # A number that was never used, so that it is not taken for a message that is there already.
            drive = time.time_ns()
            if letter.call is not None:
                if await self._runs.tries.reopen(run, letter.function, letter.call.accepted_at):
                    await self.streams.add_call(replace(letter.call, drive=drive, turn=letter.call.turn + 1))
            elif letter.callback is not None:
                await self.streams.add_callback(replace(letter.callback, since=time.time(), drive=drive))
            await self.streams.unbury(letter)
        return found

    async def drop(self, run: str) -> list[DeadLetter]:
        """Forget what was given up of a call; what that was.

        Raises:
            NotFound: there is no dead letter of it.
            RunsUnavailable: JetStream does not answer.
        """
        found = await self.dead(run)
        for letter in found:
            await self.streams.unbury(letter)
            await self.streams.drop_body(run)
        return found
