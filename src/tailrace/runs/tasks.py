"""Ends tasks that wait for NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

CANCEL_AGAIN_S = 0.02


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until all have ended; what they raise is dropped.

    Cancelled again and again: the client library waits by what loses a cancellation on Python 3.11 when a
    message comes at the same moment (cpython#86296).
    """
    left = list(tasks)
    while left := [task for task in left if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
