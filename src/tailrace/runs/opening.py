"""Opens the runs of a gateway, on a NATS that runs already or on one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client

from tailrace.addresses import EMBEDDED
from tailrace.errors import RunsUnavailable
from tailrace.nats.embedded import embedded_nats
from tailrace.runs.asking import words_of
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
    async with contextlib.AsyncExitStack() as stack:
        urls, token = settings.nats_url, ""
        if urls == (EMBEDDED,):
            nats_dir = state_dir / "nats"
            # Of both kinds as much again for what lies beside it: records; bodies, dead letters.
            limit = 2 * settings.runs_max_bytes + 4 * settings.async_max_bytes
            sync_s = settings.nats_sync_s
            own = await stack.enter_async_context(embedded_nats(nats_dir, sync_s=sync_s, limit_bytes=limit))
            urls, token = (own.url,), own.token
        client = await connect_nats(settings, urls, token)
        stack.push_async_callback(close_nats, client)
        runs = Runs(client, gateway_name(open_node(state_dir / "node")), settings, numbers)
        await runs.start(Bounds(settings.runs_max_age_s, settings.runs_max_bytes, settings.runs_copies))
        stack.push_async_callback(runs.aclose)
        yield runs


async def close_nats(client: Client) -> None:
    """Close it, also when it is lost: nats-py then writes to a transport that uvloop has closed."""
    with contextlib.suppress(RuntimeError, OSError):
        await client.close()


async def connect_nats(settings: Settings, urls: Sequence[str], token: str = "") -> Client:
    """A connection to NATS that comes back by itself; the caller closes it.

    Raises:
        RunsUnavailable: nobody answers.
    """
    creds = _readable(settings.nats_creds) if settings.nats_creds else None
    client = Client()
    told: list[Exception] = []
    is_connecting = True
    limit = asyncio.timeout(CONNECT_S * (len(urls) + 1))

    async def ready() -> None:
        logger.warning("NATS answers again")

    async def lost() -> None:
        if not client.is_closed:
            logger.warning("the connection to NATS is lost; it is tried again until it answers")

    async def quiet(error: Exception) -> None:
        logger.debug("NATS: %s", error)
        if is_connecting:
            told.append(error)
            # nats-py tries a server whose certificate it does not trust for ever.
            untrusted = [one for one in told if isinstance(one, ssl.SSLCertVerificationError)]
            if error in untrusted and len(untrusted) == len(urls):
                limit.reschedule(asyncio.get_running_loop().time())

    try:
        async with limit:
            await client.connect(
                list(urls), user_credentials=creds, token=token or None, connect_timeout=CONNECT_S,
                max_reconnect_attempts=1, reconnect_time_wait=RECONNECT_S, name="tailrace",
                error_cb=quiet, disconnected_cb=lost, reconnected_cb=ready,
            )  # fmt: skip
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as failed:
        await close_nats(client)
        # What the server says; a connection that it closed thereafter says nothing.
        said = [error for error in told if isinstance(error, nats.errors.Error)]
        why = (said or told[-1:] or [failed])[0]
        raise RunsUnavailable(
            f"NATS at {', '.join(urls)} cannot be used: {words_of(why)}",
            hint="Start it, or correct nats_url (TAILRACE_NATS_URL) or nats_creds (TAILRACE_NATS_CREDS).",
        ) from failed
    is_connecting = False
    told.clear()
    client.options["max_reconnect_attempts"] = -1  # from now on for ever
    return client


def _readable(creds: Path) -> str:
    """The path of a credentials file, which nats-py reads at each connection.

    Raises:
        RunsUnavailable: it cannot be read.
    """
    try:
        with creds.open("rb"):
            return str(creds)
    except OSError as failed:
        raise RunsUnavailable(f"nats_creds '{creds}' cannot be read: {failed.strerror}") from failed
