"""A Flask generator in our runtime and in the servers people run it with: 1,000 streams at once."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from bench.native import Paced
from bench.rows import OURS, Limit, Row
from bench.servers import RIVAL_SERVERS, STOCK, runtime, serving
from bench.session import Measure, Session, Weighed

STREAMS = 1000
# The stock server takes 4 streams of 3 s at a time: what it has not completed by then, it has not.
LIMIT_S = 15.0
PACED = Paced(STREAMS, 50, 50, ramp_s=1.0, limit_s=LIMIT_S)
_WHICH = f"{STREAMS:,} streams of {1000 // PACED.gap_ms} events/s"

CPU = Measure(
    "runtime", f"CPU per event of a Flask generator, {_WHICH}", "us", "less",
    lambda weighed: weighed.us_per_event, quoted=["gunicorn gevent"],
)  # fmt: skip
COMPLETED = Measure(
    "runtime", f"complete within {LIMIT_S:.0f} s of {_WHICH}, Flask", "", "more",
    lambda weighed: weighed.seen.completed, {STOCK.name: Limit("figure", "least", STREAMS)}, [STOCK.name],
)  # fmt: skip
FIRST = Measure(
    "runtime", f"first event, p50, {_WHICH}, Flask", "ms", "less",
    lambda weighed: weighed.seen.first_event_ms.p50,
)  # fmt: skip
DELAY = Measure(
    "runtime", f"delay of an event, p99, {_WHICH}, Flask", "ms", "less",
    lambda weighed: weighed.seen.latency_ms.p99,
)  # fmt: skip


def _stock(session: Session, found: dict[str, list[Weighed]]) -> None:
    """The stock server once: it needs all of the limit, and is a round's partner of ours all the same."""
    with serving(session, STOCK) as whom:
        weighed = session.stream(whom, PACED)
        session.say(f"{STREAMS:,} streams, {whom.name}: {weighed.seen.completed} complete in {LIMIT_S:.0f} s")
    found[STOCK.name] = [weighed] * len(found[OURS])


def run(session: Session) -> list[Row]:
    """Each server a process of its own; those that are not asked wait. 3 rounds at most: they are long."""
    session = replace(session, rounds=min(3, session.rounds))
    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(runtime(session))]
        contenders += [stack.enter_context(serving(session, server)) for server in RIVAL_SERVERS]
        found = dict(session.in_turn("Flask generator", contenders, lambda whom: session.stream(whom, PACED)))
    _stock(session, found)
    return [*CPU.rows(found), *COMPLETED.rows(found), *FIRST.rows(found), *DELAY.rows(found)]
