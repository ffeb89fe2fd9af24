"""What is counted of runs on one gateway."""

from __future__ import annotations

from dataclasses import dataclass, field


def _empty() -> dict[str, float]:
    return {"runs_max_age_s": 0.0, "runs_max_bytes": 0.0}


@dataclass(slots=True)
class RunNumbers:
    """Counters, and gauges where it says now.

    Attributes:
        started: Runs begun here.
        unrecorded: Runs of which nothing, or from some moment on nothing more, could be written.
        truncated: Runs that were longer than what is recorded of one.
        lost: Runs of dead gateways that were closed here.
        ended_alone: Runs that were ended because nobody watched them any more.
        viewers: Viewers beside first clients, now.
        viewers_dropped: Viewers that did not keep up.
        is_down: Whether JetStream takes nothing, now.
        fullness: How near the events are to a bound that deletes them unasked, of 1, by the bound's name.
    """

    started: int = 0
    unrecorded: int = 0
    truncated: int = 0
    lost: int = 0
    ended_alone: int = 0
    viewers: int = 0
    viewers_dropped: int = 0
    is_down: bool = False
    fullness: dict[str, float] = field(default_factory=_empty)
