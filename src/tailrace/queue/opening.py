"""Opens the queue of a gateway, and its worker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tailrace.client import Client
from tailrace.errors import InvalidRequest
from tailrace.functions.table import Table
from tailrace.queue.agreement import differences, notes_of
from tailrace.queue.caller import Caller, EdgeCaller
from tailrace.queue.delivery import Delivery
from tailrace.queue.handling import Handling
from tailrace.queue.intake import Intake
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.remote import RemoteCaller, RemoteFunctions
from tailrace.queue.served import Functions, TableFunctions
from tailrace.queue.signing import open_secret
from tailrace.queue.streams import QueueBounds, Streams
from tailrace.queue.worker import Worker
from tailrace.runs.journal import Journal
from tailrace.runs.keeper import Runs
from tailrace.runs.opening import close_nats, connect_nats
from tailrace.runs.store import Store, stream_of
from tailrace.runs.tries import Tries
from tailrace.settings import Settings

logger = logging.getLogger(__name__)


def bounds_of(settings: Settings) -> QueueBounds:
    """How much is kept, as the settings say."""
    return QueueBounds(
        settings.async_max_bytes, settings.async_dead_keep_s, settings.async_lease_s, settings.runs_copies
    )


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of one gateway: what takes calls in, and what makes them here."""

    intake: Intake
    caller: EdgeCaller
    tries: Tries
    numbers: QueueNumbers


@contextlib.asynccontextmanager
async def open_queue(
    runs: Runs | None, settings: Settings, state_dir: Path, socket: Path, numbers: QueueNumbers
) -> AsyncIterator[Queue | None]:
    """The gateway's queue while the context is open; None where no runs are kept.

    Args:
        socket: Where the edge listens for calls of its own process.
    Raises:
        RunsUnavailable: JetStream does not answer.
        PlatformError: the secret that signs results cannot be used.
    """
    if runs is None:
        yield None
        return
    secret = open_secret(state_dir, settings.callback_secret_file)
    streams = Streams(runs.store, bounds_of(settings))
    notes = notes_of(secret, settings)
    _warn(await streams.read_notes(), notes)
    await streams.prepare(notes)
    caller = EdgeCaller(runs, str(socket))
    yield Queue(Intake(streams, runs, numbers, secret), caller, runs.tries, numbers)


def _warn(before: Mapping[str, str], here: Mapping[str, str]) -> None:
    for words in differences(before, here):
        logger.warning("%s", words)


@contextlib.asynccontextmanager
async def working(
    streams: Streams, secret: bytes, tries: Tries, caller: Caller, functions: Functions, *,
    settings: Callable[[], Settings], numbers: QueueNumbers,
) -> AsyncIterator[Worker]:  # fmt: skip
    """A worker while the context is open, for the queues of the settings as they are now.

    Args:
        secret: What results are signed with.
    Raises:
        RunsUnavailable: JetStream does not answer.
    """
    handling = Handling(streams, tries, caller, settings, numbers)
    delivery = Delivery(streams, secret, settings, numbers)
    worker = Worker(
        streams, handling, delivery, functions, settings=settings, numbers=numbers,
        queues=settings().async_queues,
    )  # fmt: skip
    await worker.start()
    try:
        yield worker
    finally:
        await worker.aclose()


@contextlib.asynccontextmanager
async def working_here(
    queue: Queue | None, table: Table, settings: Callable[[], Settings]
) -> AsyncIterator[Worker | None]:
    """The gateway's own worker while the context is open; None without a queue, or where it is off.

    Raises:
        RunsUnavailable: JetStream does not answer.
    """
    if queue is None or not settings().async_queues:
        yield None
        return
    intake, functions = queue.intake, TableFunctions(table)
    async with working(
        intake.streams, intake.secret, queue.tries, queue.caller, functions, settings=settings,
        numbers=queue.numbers,
    ) as worker:  # fmt: skip
        yield worker


@contextlib.asynccontextmanager
async def working_alone(settings: Settings, client: Client, numbers: QueueNumbers) -> AsyncIterator[Worker]:
    """A worker apart from its gateway while the context is open.

    Args:
        client: Of the gateway that makes the calls, as its admin.
    Raises:
        RunsUnavailable: no NATS answers at ``nats_url``.
        GatewayUnreachable: there is no gateway to ask.
        InvalidRequest: the gateway uses another NATS.
    """
    key = await client.get_callback_key()
    secret = key.secret.encode("latin-1")
    nats = await connect_nats(settings, settings.nats_url)
    try:
        store = Store(nats)
        streams = Streams(store, bounds_of(settings))
        if key.store and key.store != await streams.read_identity():
            raise InvalidRequest(
                f"the gateway at {client.url} keeps its queue in another NATS than "
                f"{', '.join(settings.nats_url)}",
                hint="Give the worker the --nats-url that this gateway has; one that is embedded is its own.",
            )
        _warn(await streams.read_notes(), notes_of(secret, settings))
        async with working(
            streams, secret, Tries(store, Journal(nats, stream_of)), RemoteCaller(client),
            RemoteFunctions(client), settings=lambda: settings, numbers=numbers,
        ) as worker:  # fmt: skip
            yield worker
    finally:
        await close_nats(nats)
