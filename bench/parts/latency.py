"""How much later an event arrives for going through the edge: 1, 100 and 1,000 streams of 20 events/s."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from bench.native import Paced
from bench.proxies import edge, nginx
from bench.rows import OURS, Limit, Row
from bench.session import Contender, Found, Measure, Session, Weighed

# One stream has 40 events in a round, whose p99 is their worst: read the p50.
LOADS = (Paced(1, 40, 50), Paced(100, 40, 50, ramp_s=0.5), Paced(1000, 40, 50, ramp_s=1.0))
# Milliseconds that the edge may add at p99.
ADDED_P99_MS: Mapping[int, float] = {100: 1.0, 1000: 8.0}


def _p50(weighed: Weighed) -> float:
    return weighed.seen.latency_ms.p50


def _p99(weighed: Weighed) -> float:
    return weighed.seen.latency_ms.p99


def _added(found: Found, what: str, streams: int) -> Row:
    """What the edge adds at p99 to the same round's direct figure, beside what nginx adds."""
    ours, theirs = (
        [_p99(through) - _p99(direct) for through, direct in zip(found[name], found["direct"], strict=True)]
        for name in (OURS, "nginx")
    )
    limit = ADDED_P99_MS.get(streams)
    return Row(
        "latency", what, "ms", "less", ours, "nginx", theirs,
        Limit("figure", "most", limit) if limit else None, is_quoted=streams in ADDED_P99_MS,
    )  # fmt: skip


def _rows(found: Found, paced: Paced) -> list[Row]:
    which = f"{paced.streams:,} stream{'s' if paced.streams > 1 else ''} of {1000 // paced.gap_ms} events/s"
    rows = [
        *Measure("latency", f"delay of an event, p50, {which}", "ms", "less", _p50).rows(found),
        *Measure("latency", f"delay of an event, p99, {which}", "ms", "less", _p99).rows(found),
    ]
    if paced.streams == 1:
        return rows  # its p99 is one event, its worst: a difference of two of them says nothing
    return [
        *rows,
        _added(found, f"delay added to an event, p99, {which}", paced.streams),
        *Measure(
            "latency", f"complete of {which}", "", "more", lambda weighed: weighed.seen.completed,
            {"direct": Limit("ratio", "least", 1.0)},
        ).rows(found, others=["direct"]),
    ]  # fmt: skip


def run(session: Session) -> list[Row]:
    """The source alone, the edge and nginx, in turn."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        through = [stack.enter_context(proxy) for proxy in (edge(session), nginx(session))]
        for whom in through:
            session.warm_up(whom)
        for paced in LOADS[: 2 if session.is_quick else None]:

            def stream(whom: Contender, paced: Paced = paced) -> Weighed:
                return session.stream(whom, paced)

            found = session.in_turn(f"{paced.streams} streams", [session.direct(), *through], stream)
            rows += _rows(found, paced)
    return rows
