"""64 streams at full speed: how much the edge forwards when nobody else is the limit."""

from __future__ import annotations

import contextlib

from bench.native import Paced
from bench.proxies import edge, nginx
from bench.rows import Row
from bench.session import Measure, Session

STREAMS, EVENTS = 64, 4000
EVENTS_PER_S = Measure(
    "speed", f"events/s, {STREAMS} streams at full speed", "/s", "more",
    lambda weighed: weighed.seen.events / weighed.seen.seconds, quoted=["nginx"],
)  # fmt: skip
MB_PER_S = Measure(
    "speed", f"throughput, {STREAMS} streams at full speed", "MB/s", "more",
    lambda weighed: weighed.seen.bytes / weighed.seen.seconds / 1e6,
)  # fmt: skip
CHUNK = Measure(
    "speed", f"CPU per event, {STREAMS} streams at full speed", "us", "less",
    lambda weighed: weighed.us_per_event,
)  # fmt: skip


def run(session: Session) -> list[Row]:
    """The source alone shows what source and sink can do."""
    paced = Paced(STREAMS, EVENTS // (4 if session.is_quick else 1), 0)
    with contextlib.ExitStack() as stack:
        through = [stack.enter_context(proxy) for proxy in (edge(session), nginx(session))]
        for whom in through:
            session.warm_up(whom)
        contenders = [session.direct(), *through]
        found = session.in_turn("full speed", contenders, lambda whom: session.stream(whom, paced))
    return [*EVENTS_PER_S.rows(found), *MB_PER_S.rows(found), *CHUNK.rows(found, others=["nginx"])]
