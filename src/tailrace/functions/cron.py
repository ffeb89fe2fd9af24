"""Calls functions at the moments that their annotations name.

`Cron.turn` decides, with the time passed in; `Cron.run` only sleeps and calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tailrace.functions.table import Table
from tailrace.names import FunctionName
from tailrace.schedules import Schedule

logger = logging.getLogger(__name__)

# A moment that passed longer ago (the machine slept) is missed, and not made up for.
LATE_S = 30.0
# A clock that was set back by more than this was wrong before: what is due counts from now on. After less
# no moment comes twice. Source: cron(8), which draws the same line.
SET_BACK_S = 3 * 3600.0
# How long until a deployment is seen that nobody tells of.
LOOK_S = 1.0

Call = Callable[[FunctionName, datetime], Awaitable[str]]


@dataclass(slots=True)
class _Entry:
    schedule: Schedule
    due: datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """Whom to call now and for which moment, whose moment was not used and why, and when to look again."""

    due: tuple[tuple[FunctionName, datetime], ...]
    skipped: tuple[tuple[FunctionName, str], ...]
    wait_s: float


class Cron:
    """The schedules of a table's functions.

    Args:
        call: Makes the call of one moment; its words when it did not go well, else empty.
        tell: Writes a line into a function's log.
        clock: The time, with its zone; tests move it by hand.
    """

    def __init__(
        self,
        table: Table,
        call: Call,
        tell: Callable[[FunctionName, str], None],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._table = table
        self._call = call
        self._tell = tell
        self._clock = clock
        self._entries: dict[FunctionName, _Entry] = {}
        self._seen: datetime | None = None
        self._running: dict[FunctionName, set[asyncio.Task[None]]] = {}

    def turn(self, now: datetime) -> Turn:
        """What is due. A function that was deployed or whose schedule changed begins with its next moment.

        So do all when the clock was set back by more than SET_BACK_S: a moment that was reckoned from a
        time that was wrong may be years away.
        """
        if self._seen is not None and self._seen - now > timedelta(seconds=SET_BACK_S):
            self._entries = {}
        self._seen = now
        entries: dict[FunctionName, _Entry] = {}
        due: list[tuple[FunctionName, datetime]] = []
        skipped: list[tuple[FunctionName, str]] = []
        for function in self._table:
            schedule = function.options.schedule
            if schedule is None:
                continue
            entry = self._entries.get(function.name)
            if entry is None or entry.schedule != schedule:
                entry = _Entry(schedule, schedule.next_after(now))
            elif now >= entry.due:
                if now - entry.due > timedelta(seconds=LATE_S):
                    skipped.append((function.name, f"the moment {entry.due:%Y-%m-%dT%H:%M:%SZ} was missed"))
                elif self._running.get(function.name) and not function.options.may_overlap:
                    skipped.append((function.name, "the call before this one still runs"))
                else:
                    due.append((function.name, entry.due))
                entry = _Entry(schedule, schedule.next_after(now))
            entries[function.name] = entry
        self._entries = entries
        nearest = min(((entry.due - now).total_seconds() for entry in entries.values()), default=LOOK_S)
        return Turn(tuple(due), tuple(skipped), max(0.0, min(LOOK_S, nearest)))

    async def run(self) -> None:
        """Call what is due, until it is cancelled; calls that run are cancelled with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                turn = self.turn(self._clock())
                for name, why in turn.skipped:
                    self._tell(name, f"cron: not called: {why}\n")
                for name, moment in turn.due:
                    task = group.create_task(self._call_one(name, moment))
                    running = self._running.setdefault(name, set())
                    running.add(task)
                    task.add_done_callback(running.discard)
                self._running = {name: tasks for name, tasks in self._running.items() if tasks}
                await asyncio.sleep(turn.wait_s)

    async def _call_one(self, name: FunctionName, moment: datetime) -> None:
        try:
            words = await self._call(name, moment)
        except Exception as failed:
            logger.exception("the scheduled call of %s failed", name)
            words = repr(failed)
        if words:
            self._tell(name, f"cron: {words}\n")
