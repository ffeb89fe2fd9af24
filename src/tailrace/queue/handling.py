"""What is done with one call that was handed out: one try, and what follows from it.

handed out ──▶ try ──▶ over ───────▶ result queued for delivery ──▶ acknowledged
    ▲           ├───▶ again: handed back for its wait
    └───────────┘
                └───▶ given up: run ended, dead letter kept, result queued ──▶ acknowledged

Each step may be done twice and then changes nothing, so a worker may die between any two.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from tailrace.errors import NotFound
from tailrace.queue.caller import Caller
from tailrace.queue.calls import Callback, DeadLetter, Outcome, QueuedCall
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.policy import Policy, judge, policy_of, read_retry_after, wait_s
from tailrace.queue.served import Served
from tailrace.queue.streams import Streams
from tailrace.runs.tries import Answer, Tries
from tailrace.settings import Settings

logger = logging.getLogger(__name__)

# A call that somebody else makes is looked at again so soon.
BUSY_S = 1.0
# End reasons of calls that were given up without one of their own.
GIVEN_UP = "refused"
CUT = "its answer broke off: the gateway or the replica that made it died"
BODY_LOST = "the body of the call is not kept any more"


class Handling:
    """One worker's way with calls."""

    def __init__(
        self, streams: Streams, tries: Tries, caller: Caller, settings: Callable[[], Settings],
        numbers: QueueNumbers,
    ) -> None:  # fmt: skip
        self._streams = streams
        self._tries = tries
        self._caller = caller
        self._settings = settings
        self._numbers = numbers

    async def handle(self, call: QueuedCall, served: Served) -> float | None:
        """Make a call once; when to try it again, in seconds, or None: it is settled.

        Raises:
            RunsUnavailable: JetStream does not answer; the call is to be handed out again.
            GatewayUnreachable: there is no gateway to ask; as above.
        """
        policy = policy_of(served.retries, self._settings())
        body = await self._streams.read_body(call)
        if body is None:
            outcome = Outcome("queued", status=410, is_ours=True, error=BODY_LOST)
            await self._give_up(call, outcome, policy)
            return None
        outcome = await self._caller.call(call, body, policy)
        verdict = judge(outcome, policy)
        if verdict == "busy":
            return BUSY_S
        if verdict == "again":
            asked_s = read_retry_after(outcome.retry_after, time.time())
            return wait_s(policy, outcome.tries, asked_s, random.random())  # noqa: S311  # no secret
        if verdict == "over":
            await self._settle(call, outcome, policy)
        else:
            await self._give_up(call, outcome, policy)
        return None

    async def _give_up(self, call: QueuedCall, outcome: Outcome, policy: Policy) -> None:
        """End the run, with what its function said last where that is not in it."""
        answer = None
        if not outcome.is_ours and not outcome.is_begun and outcome.status >= 400:
            answer = Answer(outcome.status, outcome.headers, outcome.body)
        error = outcome.error or (f"the function answered {outcome.status}" if outcome.status >= 400 else CUT)
        if outcome.tries > 1:
            error = f"{error} (tried {outcome.tries} times)"
        reason = outcome.reason or GIVEN_UP
        try:
            record = await self._tries.give_up(call.run, reason, error, answer)
        except NotFound:  # refused before it had begun
            await self._tries.enqueue(call.run, call.function)
            record = await self._tries.give_up(call.run, reason, error, answer)
        # It may have been over: a call that was done is handed out anew when its acknowledgement was lost.
        outcome = replace(outcome, state=record.state, reason=record.end_reason, error=record.error)
        await self._settle(call, outcome, policy)

    async def _settle(self, call: QueuedCall, outcome: Outcome, policy: Policy) -> None:
        """Do what follows from a run that is over."""
        if outcome.state == "cancelled":
            await self._drop_body(call)
            return
        if outcome.state == "failed":
            kept = replace(call, drive=0)
            letter = DeadLetter(
                "call", call.run, call.function, call.queue, outcome.reason, outcome.error, outcome.tries,
                time.time(), call=kept,
            )  # fmt: skip
            is_new = not await self._streams.has_dead(call.run)
            await self._streams.bury(letter)
            if is_new:  # a place for its result may be waited for
                self._numbers.dead += 1
                logger.warning("call %s of %s is a dead letter: %s", call.run, call.function, outcome.error)
        if call.callback_url:
            callback = Callback(
                call.run, call.function, call.queue, call.callback_url, time.time(), policy.attempts,
                call.drive, call.turn, call.start_ns,
            )  # fmt: skip
            await self._streams.add_callback(callback)
        if outcome.state == "done":
            await self._drop_body(call)

    async def _drop_body(self, call: QueuedCall) -> None:
        if call.pieces:
            await self._streams.drop_body(call.run)
