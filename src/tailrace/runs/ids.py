"""Ids of runs and of their events: ``<run>`` and ``<run>-<seq>``. Pure.

Whoever knows a run's id may watch and stop it, so what is no id of ours never names a run or a subject.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# As `edge.call_id` makes them: 130 random bits in lower-case base32.
_RUN = re.compile(r"[a-z2-7]{26}")
# Far above what 4 MiB of events can number; what is longer is none of ours.
_SEQ = re.compile(r"0|[1-9][0-9]{0,8}")


class EventId(NamedTuple):
    """An event of a run. ``seq`` counts from 1; 0 stands before the first."""

    run: str
    seq: int

    def __str__(self) -> str:
        return f"{self.run}-{self.seq}"


def is_run_id(text: str) -> bool:
    """Whether text is a run's id."""
    return _RUN.fullmatch(text) is not None


def parse_seq(text: str) -> int | None:
    """A number of an event, as digits without sign, blanks or leading zeros; None for anything else."""
    return int(text) if _SEQ.fullmatch(text) else None


def parse_event_id(text: str) -> EventId | None:
    """``<run>-<seq>``; None for anything else, which then is no id of ours."""
    run, _, digits = text.partition("-")
    seq = parse_seq(digits)
    return EventId(run, seq) if is_run_id(run) and seq is not None else None
