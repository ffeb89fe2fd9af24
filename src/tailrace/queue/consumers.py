"""What hands out calls: a consumer of the queue's stream per queue and function, made when there is a call.

One that is idle and whose function is gone is deleted, for NATS holds each in memory. It is made again by a
worker that is told of a call, and where none was told, by one that sees that calls are kept which nothing
hands out.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from tailrace.queue import calls
from tailrace.queue.calls import Waiting
from tailrace.runs.asking import asking
from tailrace.runs.store import ASK_S

QUEUE = "TAILRACE_QUEUE"
# Apart from the calls: where those fill their stream, what frees it needs a place for its results.
CALLBACKS = "TAILRACE_CALLBACKS"
# What JetStream answers of a listing at once.
_PAGE = 256


class Consumers:
    """Those of the calls, and the one of results.

    Args:
        client: Connected; belongs to somebody else.
        lease_s: What was handed out is handed out again without a sign of life for so long.
    """

    def __init__(self, client: Client, lease_s: float) -> None:
        self._js: JetStreamContext = client.jetstream(timeout=ASK_S)
        self._lease_s = lease_s
        self._known: set[str] = set()

    async def pull_calls(self, queue: str, function: str) -> JetStreamContext.PullSubscription:
        """Hands out one function's calls of one queue.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        await self.open_anew(queue, function)
        async with asking("hand out calls"):
            return await self._js.pull_subscribe_bind(calls.consumer_name(queue, function), stream=QUEUE)

    async def pull_callbacks(self) -> JetStreamContext.PullSubscription:
        """Hands out results to deliver.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("hand out results"):
            config = self._consumer(calls.CALLBACKS, calls.CALLBACK_SUBJECTS)
            await self._js.add_consumer(CALLBACKS, config)
            return await self._js.pull_subscribe_bind(calls.CALLBACKS, stream=CALLBACKS)

    async def waiting(self) -> AsyncIterator[Waiting]:
        """What waits, by queue and function.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        offset = 0
        while True:
            async with asking("tell what waits"):
                page = await self._js.consumers_info(QUEUE, offset=offset)
            for info in page:
                known = calls.parse_consumer(info.config.filter_subject or "")
                if known is not None:
                    numbers = info.num_pending, info.num_ack_pending, info.num_waiting
                    yield Waiting(*known, *(number or 0 for number in numbers))
            offset += len(page)
            if len(page) < _PAGE:
                return

    async def open_anew(self, queue: str, function: str) -> None:
        """Make what hands out a function's calls, also where it is thought to be there.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        self._known.discard(calls.consumer_name(queue, function))
        await self.open(queue, function)

    async def close(self, queue: str, function: str) -> None:
        """Delete what hands out a function's calls; the calls stay.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        name = calls.consumer_name(queue, function)
        self._known.discard(name)
        async with asking("delete a function's queue"):
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await self._js.delete_consumer(QUEUE, name)

    async def open(self, queue: str, function: str) -> None:
        """Make what hands out a function's calls, unless it was there before.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        name = calls.consumer_name(queue, function)
        if name in self._known:
            return
        config = self._consumer(name, calls.call_subject(queue, function, "*"))
        async with asking("make a function's queue"):
            await self._js.add_consumer(QUEUE, config)
        self._known.add(name)

    def _consumer(self, name: str, subject: str) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=name, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._lease_s, max_deliver=-1, max_ack_pending=-1,
        )  # fmt: skip
