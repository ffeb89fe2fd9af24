"""Makes the calls of queues: one lane per function that has some, and one for results to deliver."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Sequence

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace.errors import TailraceError
from tailrace.queue import calls, leftovers
from tailrace.queue.calls import Callback, QueuedCall
from tailrace.queue.delivery import Delivery
from tailrace.queue.handling import Handling
from tailrace.queue.lane import Hand, Lane
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.places import AT_ONCE
from tailrace.queue.served import Functions
from tailrace.queue.streams import Streams
from tailrace.runs.tasks import end_tasks
from tailrace.settings import Settings

logger = logging.getLogger(__name__)

# How often it is looked for calls whose notice was missed, and which wait for a function to be deployed.
SWEEP_S = 3.0
# So many looks in a row have to find calls that nothing hands out: two counts are never of one moment.
SHORT_LOOKS = 5
# A lane without a message for so long is closed.
IDLE_S = 60.0
# Signs of life per lease.
BEATS = 4
ALL = ("all",)


class Worker:
    """Hands calls to a `Handling`, results to a `Delivery`. Begin with `start`, end with `aclose`.

    Args:
        queues: The queues it serves; `ALL`: every one.
    """

    def __init__(
        self, streams: Streams, handling: Handling, delivery: Delivery, functions: Functions, *,
        settings: Callable[[], Settings], numbers: QueueNumbers, queues: Sequence[str] = ALL,
    ) -> None:  # fmt: skip
        self._streams = streams
        self._handling = handling
        self._delivery = delivery
        self._functions = functions
        self._settings = settings
        self._numbers = numbers
        self._queues = tuple(queues)
        self._hand = Hand()
        self._leftovers = leftovers.Turns()
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._results: Lane | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._notices: Subscription | None = None
        self._is_stopping = False
        self._short_looks = 0

    async def start(self) -> None:
        """Begin to take calls.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        self._notices = await self._streams.client.subscribe(calls.NOTICE_SUBJECT, cb=self._on_notice)
        self._results = Lane(
            self._streams.consumers.pull_callbacks,
            self._deliver,
            self._room_for_results,
            self._hand,
            idle_s=math.inf,
        )
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._beat())]

    def stop(self) -> None:
        """Take nothing more; calls that are being made go on."""
        self._is_stopping = True
        for lane in (*self._lanes.values(), self._results):
            if lane is not None:
                lane.stop()

    async def aclose(self) -> None:
        """Stop, and leave what is in hand to others."""
        self.stop()
        await end_tasks(self._tasks)
        for lane in (*self._lanes.values(), self._results):
            if lane is not None:
                await lane.aclose()
        if self._notices is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._notices.unsubscribe()
        await self._delivery.aclose()

    @property
    def in_hand(self) -> int:
        """Calls and results that it has taken and not settled."""
        return len(self._hand)

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is in hand; False when the time was over first. `stop` comes before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._hand.is_empty.wait()
        return not len(self._hand)

    # Which lanes there are.

    async def _on_notice(self, message: Msg) -> None:
        queue, _, function = message.data.decode("ascii", "replace").partition(" ")
        await self._open(queue, function)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._look()
                if self._leftovers.is_due():
                    await leftovers.sweep(self._streams, time.time())
                    await leftovers.drop_idle(self._streams.consumers, self._functions, self._serves)
            except TailraceError as failed:
                logger.debug("the queues cannot be looked at: %s", failed.message)
            except Exception:
                logger.exception("looking at the queues failed")
            await asyncio.sleep(SWEEP_S)

    async def _look(self) -> None:
        waiting, known, kept = 0, set[tuple[str, str]](), await self._streams.count_calls()
        async for found in self._streams.consumers.waiting():
            waiting += found.pending + found.handed_out
            known.add((found.queue, found.function))
            if found.pending or found.handed_out:
                await self._open(found.queue, found.function)
        self._numbers.waiting = waiting
        for key, lane in list(self._lanes.items()):
            if lane.is_over:
                del self._lanes[key]
        is_short = min(kept, await self._streams.count_calls()) > waiting
        self._short_looks = self._short_looks + 1 if is_short else 0
        if self._short_looks >= SHORT_LOOKS:
            self._short_looks = 0
            await self._hand_out_again(known)

    async def _hand_out_again(self, known: set[tuple[str, str]]) -> None:
        """Make anew what hands out calls: it was deleted by who did not know of them, and nobody was told."""
        for queue, function in await self._streams.list_queues() - known:
            await self._streams.consumers.open_anew(queue, function)

    def _serves(self, queue: str) -> bool:
        return self._queues == ALL or queue in self._queues

    async def _open(self, queue: str, function: str) -> None:
        lane = self._lanes.get((queue, function))
        if self._is_stopping or not self._serves(queue) or (lane is not None and not lane.is_over):
            return
        try:
            if await self._functions.find(function) is None:
                return  # it is deployed elsewhere, or not any more: its calls wait
        except TailraceError as failed:
            logger.debug("function '%s' cannot be looked up: %s", function, failed.message)
            return
        if self._is_stopping or self._lanes.get((queue, function)) is not lane:
            return
        self._lanes[queue, function] = Lane(
            functools.partial(self._streams.consumers.pull_calls, queue, function),
            self._work,
            functools.partial(self._room, function),
            self._hand,
            idle_s=IDLE_S,
        )

    # What they do.

    async def _room(self, function: str) -> int:
        """How many calls of a function may be in work here at once."""
        served = await self._functions.find(function)
        most = self._settings().async_concurrency
        if served is None:
            return 0
        return min(most, served.places) if served.places else most

    async def _room_for_results(self) -> int:
        return AT_ONCE

    async def _work(self, message: Msg) -> float | None:
        call = calls.decode(message.data, QueuedCall)
        if call is None:
            logger.error("what waits at %s is no call; it is dropped", message.subject)
            return None
        served = await self._functions.find(call.function)
        if served is None:
            return SWEEP_S
        if message.metadata.num_delivered > 1:
            self._numbers.redelivered += 1
        return await self._handling.handle(call, served)

    async def _deliver(self, message: Msg) -> float | None:
        callback = calls.decode(message.data, Callback)
        if callback is None:
            logger.error("what waits at %s is no result; it is dropped", message.subject)
            return None
        return await self._delivery.deliver(callback, message.metadata.num_delivered, time.time())

    async def _beat(self) -> None:
        while True:
            self._numbers.in_hand = len(self._hand)
            await asyncio.sleep(min(1.0, self._streams.bounds.lease_s / BEATS))
            await self._hand.tell_alive()
