"""How a call is stopped when its client leaves.

    at once      task.cancel(), unless an ASGI app is told first
    each 50 ms   task.cancel() again: Python 3.11's wait_for loses 6-17 % of cancels (measured)
    1.5 s        the replica retires: the call dies with the process

A generator that sits at its yield, because the client was slow or the write failed, is resumed with a
cancel pending, which meets it at its next await: ``aclose()`` there leaves the OpenAI SDK's connection
open (measured, reference of the clients, section 2).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tailrace_runtime.calls import GRACE_S

RECANCEL_S = 0.05
# What a generator may still give, without awaiting, after its client left (chunks its client buffered).
MAX_DISCARDED_ITEMS = 1000
ACLOSE_S = 1.0


class Stopper:
    """Cancels one task until it is over.

    Args:
        give_up: Called, each time again, once the task outlived its first cancel by GRACE_S.
    """

    def __init__(self, task: asyncio.Task[bool], give_up: Callable[[], None]) -> None:
        self._task: asyncio.Task[bool] | None = task
        self._give_up = give_up
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._since_s: float | None = None

    def stop(self) -> None:
        """Begin to cancel the task, now."""
        if self._task is None or self._since_s is not None:
            return
        self._drop_timer()
        self._since_s = self._loop.time()
        self._cancel()

    def stop_in(self, delay_s: float) -> None:
        """Begin after delay_s instead: the last word counts, until the first cancel."""
        if self._task is None or self._since_s is not None:
            return
        self._drop_timer()
        self._timer = self._loop.call_later(delay_s, self.stop)

    def close(self) -> None:
        """The task is over. A task kept is a traceback kept is a model's connection kept."""
        self._task = None
        self._drop_timer()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel(self) -> None:
        if self._task is None or self._since_s is None:
            return
        self._task.cancel()
        if self._loop.time() - self._since_s > GRACE_S:
            self._give_up()
        self._timer = self._loop.call_later(RECANCEL_S, self._cancel)


async def abandon(items: AsyncIterator[object], stopper: Stopper) -> None:
    """End items that may sit at their yield. Runs in the call's own task, which ends after it."""
    task = asyncio.current_task()
    assert task is not None, "a call runs in a task"
    stopper.stop()
    with contextlib.suppress(BaseException):  # the cancel or the end: either way it is out of its read
        for _ in range(MAX_DISCARDED_ITEMS):
            task.cancel()
            await anext(items)
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await asyncio.wait_for(aclose(), ACLOSE_S)
