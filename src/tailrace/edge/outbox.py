"""Writes of one turn of the event loop, handed to the kernel together at its end.

A write wakes the process that waits for it, and a wake-up costs more than the write. Back to back they
find the reader awake: 25 % less CPU per small request at 16 connections, 30 % at 64 (docs/decisions/0004).
Nothing waits for a timer: the end of the turn comes as soon as what was readable has been read.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """Keeps the order of all writes. Bounded by what one turn reads; a full transport pauses its source."""

    __slots__ = ("_loop", "_writes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._writes: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write data to transport at the end of this turn."""
        if not self._writes:
            self._loop.call_soon(self.flush)
        self._writes.append((transport, data))

    def flush(self) -> None:
        """Write now: before a transport is closed, and at the end of every turn."""
        writes, self._writes = self._writes, []
        for transport, data in writes:
            if not transport.is_closing():
                transport.write(data)
