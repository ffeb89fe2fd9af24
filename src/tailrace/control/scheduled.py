"""The calls that schedules make: through the edge, as any caller's, on its private socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from tailrace.edge.listener import listen_private
from tailrace.edge.plane import Edge
from tailrace.errors import RunsUnavailable
from tailrace.functions.cron import Cron
from tailrace.functions.logs import LogStore
from tailrace.model import LogLine
from tailrace.names import FunctionName
from tailrace.runs.claims import Claim, claim_name, request_digest
from tailrace.runs.keeper import Runs

logger = logging.getLogger(__name__)

# Source: contract section 10, cron-connector.
HEADERS = {"X-Topic": "cron-function", "X-Connector": "cron-connector"}
# Ours: the moment that the call is for, so that a function can tell a repeated one.
AT = "X-Tailrace-Scheduled-At"


@contextlib.asynccontextmanager
async def calling_on_schedule(edge: Edge, logs: LogStore, socket: Path) -> AsyncIterator[None]:
    """Call functions at their moments while the context is open; leaving ends the calls that run.

    Args:
        socket: Where the edge is to listen for these calls.
    """
    await listen_private(edge, str(socket))

    def tell(name: FunctionName, text: str) -> None:
        logs.write(LogLine(name, "tailrace", time.time_ns(), text))

    async def call(name: FunctionName, moment: datetime) -> str:
        if edge.runs is not None and not await _is_ours(edge.runs, name, moment):
            return ""
        function = edge.table.get(name)
        is_async = function is not None and function.options.is_queued_by_clock
        return await call_over(socket, name, moment, is_async=is_async)

    cron = asyncio.ensure_future(Cron(edge.table, call, tell).run())
    try:
        yield
    finally:
        cron.cancel()
        await asyncio.gather(cron, return_exceptions=True)


async def _is_ours(runs: Runs, name: FunctionName, moment: datetime) -> bool:
    """Whether this gateway is the one of several that makes the call of this moment.

    Where JetStream does not answer it is: a moment that is called twice is better than one that is lost.
    """
    claim = Claim(runs.name, request_digest(b"CRON", str(name).encode(), b""), time.time())
    key = claim_name(str(name), b"", f"cron {moment.isoformat()}".encode())
    try:
        return (await runs.claim(key, claim)).run == runs.name
    except RunsUnavailable as away:
        logger.warning("the scheduled call of %s is made, maybe by other gateways too: %s", name, away)
        return True


async def call_over(socket: Path, name: FunctionName, moment: datetime, *, is_async: bool) -> str:
    """POST without a body, to be made at once or kept in the queue; its answer is dropped.

    Returns:
        Words when it is no success, else nothing.
    """
    import httpx  # 60 ms that no start has to wait for

    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113  # the edge's clocks
        try:
            headers = {**HEADERS, AT: moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
            url = f"http://gateway/{'async-function' if is_async else 'function'}/{name}"
            async with client.stream("POST", url, headers=headers) as reply:
                async for _ in reply.aiter_raw():
                    pass
        except httpx.HTTPError as failed:
            return f"the call broke: {failed}"
    return f"answered {reply.status_code}" if reply.status_code >= 400 else ""
