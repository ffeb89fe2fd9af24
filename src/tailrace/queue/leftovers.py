"""Deletes what nothing needs any more: large bodies that a kill between two steps left, and consumers of
functions that are gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tailrace.queue.consumers import Consumers
from tailrace.queue.served import Functions
from tailrace.queue.streams import Streams

logger = logging.getLogger(__name__)

EVERY_S = 600.0
# A body is on its way into the queue for less than this.
YOUNG_S = 3600.0


async def sweep(streams: Streams, now: float, *, young_s: float = YOUNG_S) -> int:
    """How many were deleted.

    Args:
        now: Seconds since 1970.
    Raises:
        RunsUnavailable: JetStream does not answer.
    """
    dropped = 0
    for run in await streams.list_bodies():
        record = await streams.store.find_record(run)
        if (record is not None and not record.is_over) or await streams.has_dead(run):
            continue
        if record is None and now - await streams.body_written_at(run) < young_s:
            continue
        if record is None and await streams.is_waiting(run):
            continue  # for longer than records are kept
        await streams.drop_body(run)
        dropped += 1
    if dropped:
        logger.info("%d bodies of calls that are over were deleted", dropped)
    return dropped


async def drop_idle(consumers: Consumers, functions: Functions, serves: Callable[[str], bool]) -> int:
    """Delete consumers that hand out nothing, to nobody, of functions that are not here; how many.

    One whose function is elsewhere is made again with its next call.

    Args:
        serves: Whether this queue is for this worker to look after.
    Raises:
        RunsUnavailable: JetStream does not answer.
        GatewayUnreachable: there is no gateway to ask.
    """
    dropped = 0
    for found in [one async for one in consumers.waiting()]:
        is_idle = not (found.pending or found.handed_out or found.pulls)
        if is_idle and serves(found.queue) and await functions.find(found.function) is None:
            await consumers.close(found.queue, found.function)
            dropped += 1
    return dropped


class Turns:
    """When it is time again."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether a sweep is due; then the next one is due later."""
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return False
        self._last = now
        return True
