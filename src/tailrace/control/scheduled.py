"""The calls that schedules make: through the edge, as any caller's, on its private socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tailrace.edge.listener import listen_private
from tailrace.edge.plane import Edge
from tailrace.functions.cron import Cron
from tailrace.functions.logs import LogStore
from tailrace.model import LogLine
from tailrace.names import FunctionName

# Source: contract section 10, cron-connector.
HEADERS = {"X-Topic": "cron-function", "X-Connector": "cron-connector"}


@contextlib.asynccontextmanager
async def calling_on_schedule(edge: Edge, logs: LogStore, socket: Path) -> AsyncIterator[None]:
    """Call functions at their moments while the context is open; leaving ends the calls that run.

    Args:
        socket: Where the edge is to listen for these calls.
    """
    await listen_private(edge, str(socket))

    def tell(name: FunctionName, text: str) -> None:
        logs.write(LogLine(name, "tailrace", time.time_ns(), text))

    async def call(name: FunctionName) -> str:
        return await call_over(socket, name)

    cron = asyncio.ensure_future(Cron(edge.table, call, tell).run())
    try:
        yield
    finally:
        cron.cancel()
        await asyncio.gather(cron, return_exceptions=True)


async def call_over(socket: Path, name: FunctionName) -> str:
    """POST without a body; the answer is read to its end and dropped. Words when it is no success."""
    import httpx  # 60 ms that no start has to wait for

    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113  # the edge's clocks
        try:
            async with client.stream("POST", f"http://gateway/function/{name}", headers=HEADERS) as reply:
                async for _ in reply.aiter_raw():
                    pass
        except httpx.HTTPError as failed:
            return f"the call broke: {failed}"
    return f"answered {reply.status_code}" if reply.status_code >= 400 else ""
