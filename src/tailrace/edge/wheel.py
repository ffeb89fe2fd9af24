"""One timer for all connections: each is looked at when its turn comes, and says when to look again.

A timer per call costs more than parsing its head, and one moved per chunk more
than the chunk. Here a connection lies in a slot; beginning a call, a chunk or an idle time moves
nothing as long as the slot comes early enough, and the look itself finds out what is due.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

# How late a look may be.
TICK_S = 0.02
# When a look failed, for a fault of ours, the next one comes after this long.
AFTER_FAULT_S = 1.0


class Timed(Protocol):
    """What lies in the wheel. ``due_at`` belongs to the wheel; it begins as infinity."""

    due_at: float

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again (monotonic seconds), infinity for never."""


class Wheel:
    """Calls ``on_clock`` of each entry never before its time and at most a tick after it.

    Args:
        clock: Monotonic seconds; tests move it by hand and call `turn`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._slots: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def look_by(self, entry: Timed, at: float) -> None:
        """Look at the entry at this moment at the latest."""
        if entry.due_at <= at:
            return
        self.forget(entry)
        slot = math.ceil(at / TICK_S)
        entry.due_at = slot * TICK_S
        self._slots.setdefault(slot, set()).add(entry)
        if entry.due_at < self._next:
            self._arm(entry.due_at)

    def forget(self, entry: Timed) -> None:
        """Never look at the entry again."""
        if entry.due_at != math.inf:
            entries = self._slots.get(round(entry.due_at / TICK_S))
            if entries is not None:
                entries.discard(entry)
            entry.due_at = math.inf

    def turn(self) -> None:
        """Look at all that is due, and set the timer for what comes next."""
        now = self._clock()
        for slot in sorted(slot for slot in self._slots if slot * TICK_S <= now):
            entries = self._slots.pop(slot)
            while entries:
                entry = entries.pop()
                entry.due_at = math.inf
                at = self._look(entry, now)
                if at != math.inf:
                    # Never into a slot that is being emptied: a look that is due at once waits a tick.
                    self.look_by(entry, max(at, now + TICK_S))
        self._next = math.inf
        if self._slots:
            self._arm(min(self._slots) * TICK_S)

    def _look(self, entry: Timed, now: float) -> float:
        try:
            return entry.on_clock(now)
        except Exception as error:  # a fault in one call must not stop the clocks of all others
            self._loop.call_exception_handler({"message": "a look at a call failed", "exception": error})
            return now + AFTER_FAULT_S

    def close(self) -> None:
        """Forget everybody."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = self._loop.call_later(max(0.0, at - self._clock()), self.turn)
