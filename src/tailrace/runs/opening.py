"""Opens the runs of a gateway on a NATS that runs already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client

from tailrace.errors import RunsUnavailable
from tailrace.runs.keeper import Runs
from tailrace.runs.numbers import RunNumbers
from tailrace.runs.peers import gateway_name, open_node
from tailrace.runs.store import Bounds
from tailrace.settings import Settings

logger = logging.getLogger(__name__)

CONNECT_S = 5
RECONNECT_S = 1


@contextlib.asynccontextmanager
async def open_runs(settings: Settings, state_dir: Path, numbers: RunNumbers) -> AsyncIterator[Runs | None]:
    """The gateway's runs while the context is open; None without ``nats_url``.

    Raises:
        RunsUnavailable: nobody answers there, or it has no JetStream.
    """
    if not settings.nats_url:
        yield None
        return
    client = await _connect(settings)
    try:
        runs = Runs(client, gateway_name(open_node(state_dir / "node")), settings, numbers)
        await runs.start(Bounds(settings.runs_max_age_s, settings.runs_max_bytes, settings.runs_copies))
        try:
            yield runs
        finally:
            await runs.aclose()
    finally:
        await client.close()


async def _connect(settings: Settings) -> Client:
    creds = str(settings.nats_creds) if settings.nats_creds else None
    client = Client()

    async def ready() -> None:
        logger.warning("NATS answers again")

    async def lost() -> None:
        if not client.is_closed:
            logger.warning("the connection to NATS is lost; it is tried again until it answers")

    async def quiet(error: Exception) -> None:
        logger.debug("NATS: %s", error)

    try:
        await client.connect(
            list(settings.nats_url), user_credentials=creds, connect_timeout=CONNECT_S,
            max_reconnect_attempts=1, reconnect_time_wait=RECONNECT_S, name="tailrace",
            error_cb=quiet, disconnected_cb=lost, reconnected_cb=ready,
        )  # fmt: skip
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as failed:
        where = ", ".join(settings.nats_url)
        raise RunsUnavailable(
            f"no NATS answers at {where}: {failed or type(failed).__name__}",
            hint="Start it, or correct nats_url (TAILRACE_NATS_URL).",
        ) from failed
    client.options["max_reconnect_attempts"] = -1  # from now on for ever
    return client
