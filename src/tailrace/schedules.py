"""When a function is called by itself: cron's fields, ``@hourly`` and its like, ``@every 1m``. Pure; UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from tailrace.durations import parse_duration

# As cron and OpenFaaS's connector have them.
_NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_EVERY = "@every "
# What the annotation `topic` names for `schedule` to count.
TOPIC = "cron-function"
_FIELDS = ("minute", "hour", "day", "month", "weekday")
_HIGHEST = (59, 23, 31, 12, 7)
# One of a field's terms: `*`, a value or a range, each with or without a step.
_TERM = re.compile(r"(?:\*|(?:\d+|[a-z]{3})(?:-(?:\d+|[a-z]{3}))?)(?:/(\d{1,9}))?", re.ASCII | re.IGNORECASE)
# Times apart that a schedule may have at least, and expressions in one.
LEAST_S = 1.0
MOST = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Moments at which a function is called: those of any of its expressions."""

    text: str
    crons: tuple[str, ...]
    every_s: tuple[float, ...]

    def next_after(self, moment: datetime) -> datetime:
        """The first moment after this one. ``@every`` counts from 1970, so that every gateway agrees."""
        found = [next(CronSim(cron, moment)) for cron in self.crons]
        for every_s in self.every_s:
            every = timedelta(seconds=every_s)  # whole microseconds: no float puts a moment before itself
            found.append(_EPOCH + ((moment - _EPOCH) // every + 1) * every)
        return min(found)


def has_topic(annotations: Mapping[str, str]) -> bool:
    """Whether the annotation ``topic`` asks for a schedule, among others or alone."""
    return TOPIC in [topic.strip() for topic in annotations.get("topic", "").split(",")]


def parse_schedule(text: str) -> Schedule:
    """The schedule of an annotation; several expressions stand with ``;`` between them.

    Raises:
        ValueError: one of them is none, or never comes; the text quotes it.
    """
    crons: list[str] = []
    every_s: list[float] = []
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not 0 < len(parts) <= MOST:
        raise ValueError(f"'{text[:80]}' holds {len(parts)} expressions; 1 to {MOST} are expected")
    for part in parts:
        if part.startswith(_EVERY):
            seconds = parse_duration(part.removeprefix(_EVERY).strip())
            if seconds is None or not LEAST_S <= seconds <= 366 * 86400:
                raise ValueError(f"'{part[:80]}' is not @every with a duration from 1s, such as @every 5m")
            every_s.append(seconds)
            continue
        cron = _NAMED.get(part.lower(), part)
        if why := _flaw(cron):
            raise ValueError(
                f"'{part[:80]}' is no schedule ({why}): minute, hour, day, month and weekday are expected, "
                "such as */5 * * * *, or @hourly, or @every 1m"
            )
        crons.append(cron)
    return Schedule(text, tuple(crons), tuple(every_s))


def _flaw(cron: str) -> str:
    """What is wrong with cron's fields; empty: nothing. CronSim takes more than cron does."""
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        hint = ", seconds are not among them" if len(fields) == len(_FIELDS) + 1 else ""
        return f"{len(fields)} fields{hint}"
    for name, highest, field in zip(_FIELDS, _HIGHEST, fields, strict=True):
        for term in field.split(","):
            match = _TERM.fullmatch(term)
            if match is None:
                return f"{name} '{term[:20]}'"
            if match[1] and not 0 < int(match[1]) <= highest:
                return f"{name} '{term[:20]}' has a step that is not from 1 to {highest}"
    try:
        next(CronSim(cron, _EPOCH))
    except (CronSimError, StopIteration) as wrong:
        return str(wrong) or "it never comes"
    return ""
