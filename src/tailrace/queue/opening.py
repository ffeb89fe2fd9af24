"""Opens the queue of a gateway, and its worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tailrace.functions.table import Table
from tailrace.queue.caller import EdgeCaller
from tailrace.queue.delivery import Delivery
from tailrace.queue.handling import Handling
from tailrace.queue.intake import Intake
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.served import TableFunctions
from tailrace.queue.signing import open_secret
from tailrace.queue.streams import QueueBounds, Streams
from tailrace.queue.worker import Worker
from tailrace.runs.keeper import Runs
from tailrace.settings import Settings


def bounds_of(settings: Settings) -> QueueBounds:
    """How much is kept, as the settings say."""
    return QueueBounds(
        settings.async_max_bytes, settings.async_dead_keep_s, settings.async_lease_s, settings.runs_copies
    )


async def open_intake(
    runs: Runs | None, settings: Settings, state_dir: Path, numbers: QueueNumbers
) -> Intake | None:
    """What takes asynchronous calls in; None where no runs are kept.

    Raises:
        RunsUnavailable: JetStream does not answer.
        PlatformError: the secret that signs results cannot be used.
    """
    if runs is None:
        return None
    secret = open_secret(state_dir, settings.callback_secret_file)
    streams = Streams(runs.store, bounds_of(settings))
    await streams.prepare()
    return Intake(streams, runs, numbers, secret)


@contextlib.asynccontextmanager
async def working(
    intake: Intake | None, runs: Runs | None, table: Table, socket: Path, *,
    settings: Callable[[], Settings], numbers: QueueNumbers,
) -> AsyncIterator[Worker | None]:  # fmt: skip
    """A worker in the gateway while the context is open; None without a queue, or where it is off.

    Args:
        socket: Where the edge listens for calls of its own process.
    Raises:
        RunsUnavailable: JetStream does not answer.
    """
    queues = settings().async_queues
    if intake is None or runs is None or not queues:
        yield None
        return
    streams, caller = intake.streams, EdgeCaller(runs, str(socket))
    handling = Handling(streams, runs.tries, caller, settings, numbers)
    delivery = Delivery(streams, intake.secret, settings, numbers)
    worker = Worker(
        streams, handling, delivery, TableFunctions(table), settings=settings, numbers=numbers, queues=queues
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.aclose()
        await caller.aclose()
