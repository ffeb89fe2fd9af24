"""The four clocks of a call: what each is set to, and which has run out. Pure: ``now`` is passed in.

    call arrives ──queue──▶ replica has the request ──start──▶ first byte ──idle──▶ byte ──idle──▶ ... end
                            └──────────────────────total────────────────────────────────────────▶

A clock that is off stands at infinity, so that comparing is all there is to do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tailrace.options import FunctionOptions
from tailrace.settings import Settings

ClockName = Literal["queue", "read", "start", "idle", "total"]


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long each phase of a call may take, in seconds; infinite where there is no limit.

    ``look_s`` is the longest a call may go unlooked at: no clock that starts now runs out before.
    """

    queue_s: float = math.inf
    read_s: float = math.inf
    start_s: float = math.inf
    idle_s: float = math.inf
    total_s: float = math.inf
    stall_s: float = math.inf
    heartbeat_s: float = math.inf
    early_head_s: float = math.inf
    look_s: float = math.inf

    def shortened(self, total_s: float) -> Clocks:
        """These clocks with a total that is not longer than a caller's ``X-Timeout``; 0 shortens nothing."""
        if not 0 < total_s < self.total_s:
            return self
        return replace(self, total_s=total_s, look_s=min(self.look_s, total_s))


def clocks_of(options: FunctionOptions, settings: Settings) -> Clocks:
    """A function's clocks: what it asks for, else the gateway's settings."""

    def pick(own: float | None, setting: float) -> float:
        return (setting if own is None else own) or math.inf

    values = {
        "queue_s": pick(options.queue_s, settings.queue_timeout_s),
        "read_s": pick(options.read_s, settings.read_timeout_s),
        "start_s": pick(options.start_s, settings.start_timeout_s),
        "idle_s": pick(options.idle_s, settings.idle_timeout_s),
        "total_s": pick(options.total_s, settings.total_timeout_s),
        "stall_s": settings.stall_timeout_s,
        "heartbeat_s": pick(options.heartbeat_s, settings.heartbeat_s),
    }
    early_head_s = settings.early_head_s
    return Clocks(**values, early_head_s=early_head_s, look_s=min(*values.values(), early_head_s or math.inf))


@dataclass(slots=True)
class Marks:
    """When the phases of one call began, in monotonic seconds; infinite: not yet.

    Attributes:
        began: Its head was read.
        asked: The replica was given its last request byte so far.
        taken: A replica took it.
        last: The function's last byte came, or its client took bytes again after a pause.
    """

    began: float
    taken: float = math.inf
    asked: float = math.inf
    last: float = math.inf


def expiry(clocks: Clocks, marks: Marks, *, is_request_complete: bool) -> tuple[float, ClockName]:
    """When the first of the running clocks runs out, and which one that is."""
    if marks.taken == math.inf:
        first: tuple[float, ClockName] = (marks.began + clocks.queue_s, "queue")
    elif marks.last == math.inf:
        first = (marks.asked + clocks.start_s, "start")
    else:
        first = (marks.last + clocks.idle_s, "idle")
    if not is_request_complete and marks.began + clocks.read_s < first[0]:
        first = (marks.began + clocks.read_s, "read")
    if marks.taken + clocks.total_s < first[0]:
        first = (marks.taken + clocks.total_s, "total")
    return first
