"""Writes runs into JetStream, behind the streams: what is queued goes out as one acknowledged batch.

One batch is on its way at a time. The first thing queued leaves in the same turn of the loop; what comes
while a batch is on its way, or within GAP_S of the last one, makes the next. A message alone costs 52 us of
CPU with its acknowledgement, one of a batch 5 to 8.

A batch that is not acknowledged is sent again; readers drop what they have. Messages of one connection
arrive in order, so the acknowledgement of the last one of a stream stands for all before it; a message
that a change of leaders lost nevertheless is a gap that readers see.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

logger = logging.getLogger(__name__)

# Together with the time an acknowledgement takes, how much traffic shares a batch.
GAP_S = 0.04
ACK_S = 2.0
RETRY_S = 0.25
# How long writing may fail before what runs goes on unrecorded.
PATIENCE_S = 10.0
# Records that may wait for JetStream to come back; the oldest ones are forgotten first.
LATE_LIMIT = 10_000


class Source(Protocol):
    """What has something to write: a run, or a single record."""

    def outgoing(self) -> list[tuple[str, bytes]]:
        """Messages that are not acknowledged yet: subject and payload, in order."""

    def written(self) -> None:
        """What `outgoing` gave last is acknowledged."""

    def give_up(self, why: str) -> None:
        """Give nothing but what is small and must be told late rather than never."""


class Journal:
    """One writer per gateway.

    Attributes:
        failing_since: When the first batch failed that was not made good since, monotonic seconds; 0: none.
    """

    def __init__(self, client: Client, stream_of: Callable[[str], str]) -> None:
        self._client = client
        self._stream_of = stream_of
        self._queue: dict[Source, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._inbox = client.new_inbox()
        self._acks: Subscription | None = None
        self._acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = 0
        self._number = 0
        self.failing_since = 0.0

    @property
    def is_down(self) -> bool:
        """Whether it has failed for so long that there is no point in queueing more."""
        return self.failing_since > 0 and time.monotonic() - self.failing_since > PATIENCE_S

    def put(self, source: Source) -> None:
        """Write what the source has, soon. It costs nothing to be told twice."""
        self._queue[source] = None
        if self._task is None and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all that is queued is acknowledged; False when the time was over first."""
        until = time.monotonic() + timeout_s
        while self._task is not None and time.monotonic() < until:
            await asyncio.wait((self._task,), timeout=max(0.0, until - time.monotonic()))
        return self._task is None

    async def aclose(self, timeout_s: float) -> None:
        """Write what is left, for so long, and stop."""
        await self.flush(timeout_s)
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._acked.cancel()

    async def _write_all(self) -> None:
        try:
            while self._queue:
                began = time.monotonic()
                batch, self._queue = self._queue, {}
                try:
                    await self._write(list(batch))
                except (nats.errors.Error, OSError, TimeoutError, ValueError) as failed:
                    self._queue = batch | self._queue
                    self._on_failure(failed, began)
                    await asyncio.sleep(RETRY_S)
                else:
                    self._on_success()
                    await asyncio.sleep(max(0.0, began + GAP_S - time.monotonic()))
        finally:
            self._task = None

    async def _write(self, batch: list[Source]) -> None:
        client = self._client
        if not client.is_connected:
            raise nats.errors.ConnectionClosedError
        if self._acks is None:
            self._acks = await client.subscribe(f"{self._inbox}.*", cb=self._on_ack)
        messages = [message for source in batch for message in source.outgoing()]
        last = {self._stream_of(subject): at for at, (subject, _) in enumerate(messages)}
        asked = set(last.values())
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        acked = self._acked = asyncio.get_running_loop().create_future()
        self._missing = len(asked)
        # Nothing here waits, so that all of it leaves in one write.
        for at, (subject, payload) in enumerate(messages):
            await client.publish(subject, payload, reply if at in asked else "")
        if asked:
            async with asyncio.timeout(ACK_S):
                await acked
        for source in batch:
            source.written()

    async def _on_ack(self, message: Msg) -> None:
        if not message.subject.endswith(f".{self._number}") or self._acked.done():
            return  # of a batch that was given up
        if message.headers and message.headers.get("Status"):
            self._acked.set_exception(nats.errors.NoRespondersError())
        elif b'"error"' in message.data:
            told = json.loads(message.data)["error"]
            self._acked.set_exception(nats.errors.Error(str(told.get("description", told))))
        else:
            self._missing -= 1
            if not self._missing:
                self._acked.set_result(None)

    def _on_failure(self, failed: Exception, began: float) -> None:
        now = time.monotonic()
        if not self.failing_since:
            self.failing_since = began
            logger.warning("runs are not recorded now: JetStream: %s", failed or type(failed).__name__)
        if now - self.failing_since > PATIENCE_S:
            for source in self._queue:
                source.give_up(f"JetStream took nothing for {PATIENCE_S:g} s")
            while len(self._queue) > LATE_LIMIT:
                del self._queue[next(iter(self._queue))]

    def _on_success(self) -> None:
        if self.failing_since:
            logger.warning("runs are recorded again")
            self.failing_since = 0.0
