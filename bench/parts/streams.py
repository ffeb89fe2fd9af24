"""Thousands of streams at once: how many complete, how late events are, what memory each costs the edge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from bench.native import Paced
from bench.proxies import edge, nginx
from bench.rows import OURS, Limit, Row
from bench.session import Contender, Measure, Session, Weighed

Opening = Callable[[Session], contextlib.AbstractContextManager[Contender]]
# Of 5,000, all run at once for 2 s at least.
LOADS = (Paced(1000, 60, 50, ramp_s=1.0), Paced(5000, 14, 500, ramp_s=5.0))
MEMORY_KIB = 30.0


def _weigh(session: Session, opening: Opening, paced: Paced) -> Weighed:
    """In a process of its own: memory that an earlier load left behind would hide what this one takes."""
    with opening(session) as whom:
        session.warm_up(whom)
        weighed = session.stream(whom, paced)
        session.say(
            f"{paced.streams:,} streams, {whom.name}: {weighed.seen.completed:,} complete, "
            f"{weighed.seen.late_events} events late, {weighed.grown_kib / paced.streams:.1f} KiB each"
        )
        session.judge(f"{paced.streams:,} streams", whom, weighed)
        return weighed


def _rows(session: Session, paced: Paced) -> list[Row]:
    rounds = range(min(2, session.rounds))
    openings: dict[str, Opening] = {OURS: edge, "nginx": nginx}
    found: dict[str, list[Weighed]] = {name: [] for name in openings}
    for _ in rounds:
        for name, opening in openings.items():
            found[name].append(_weigh(session, opening, paced))
    count, per_s = paced.streams, 1000 // paced.gap_ms
    which = f"{count:,} streams of {per_s} events/s"
    return [
        *Measure(
            "streams", f"complete of {which}", "", "more", lambda weighed: weighed.seen.completed,
            {"nginx": Limit("figure", "least", count)}, ["nginx"] if count == 5000 else [],
        ).rows(found),
        *Measure(
            "streams", f"events later than 1 s, {which}", "", "less",
            lambda weighed: weighed.seen.late_events, {"nginx": Limit("figure", "most", 0)},
            ["nginx"] if count == 5000 else [],
        ).rows(found),
        *Measure(
            "streams", f"delay of an event, p99, {which}", "ms", "less",
            lambda weighed: weighed.seen.latency_ms.p99,
        ).rows(found),
        *Measure(
            "streams", f"memory per stream, {which}", "KiB", "less",
            lambda weighed: weighed.grown_kib / count, {"nginx": Limit("figure", "most", MEMORY_KIB)},
            ["nginx"] if count == 5000 else [],
        ).rows(found),
    ]  # fmt: skip


def run(session: Session) -> list[Row]:
    """Both loads, as far as the machine's limit of open files lets them."""
    rows: list[Row] = []
    for paced in LOADS[: 1 if session.is_quick else None]:
        if session.file_limit < 2 * paced.streams + 200:
            session.say(
                f"{paced.streams:,} streams left out: the limit of open files is {session.file_limit}"
            )
            continue
        rows += _rows(session, paced)
    return rows
