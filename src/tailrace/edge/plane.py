"""The data plane of one gateway: what all calls share, and who is connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from email.utils import formatdate
from typing import Protocol

from tailrace.edge.outbox import Outbox
from tailrace.edge.pool import Pool
from tailrace.functions.table import Table
from tailrace.provider.contract import Address
from tailrace.settings import Settings


class Connected(Protocol):
    """A client's connection, as far as the plane knows it."""

    transport: asyncio.Transport


class Edge:
    """Shared by every call. `listener.listen` sets ``server``; `aclose` ends it all.

    Args:
        control: Where the control plane listens: everything that is no function goes there.
    """

    def __init__(self, table: Table, settings: Settings, control: Address) -> None:
        self.table = table
        self.settings = settings
        self.control = control
        self.pool = Pool()
        self.clients: set[Connected] = set()
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop)
        self._tasks: set[asyncio.Task[None]] = set()
        self._date_second = 0
        self._date = b""
        self.server: asyncio.Server | None = None

    def date(self) -> bytes:
        """A ``Date`` header line of this second. Source: RFC 9110 section 6.6.1."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = b"Date: " + formatdate(second, usegmt=True).encode()
        return self._date

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run work that ends with the edge at the latest."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Stop accepting and cut every connection."""
        if self.server is not None:
            self.server.close()
        for client in list(self.clients):
            client.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pool.close()
