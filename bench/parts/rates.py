"""Small requests per second through one edge process, beside nginx with one and with two workers."""

from __future__ import annotations

import contextlib

from bench.proxies import edge, nginx
from bench.rows import Limit, Row
from bench.session import Contender, Measure, Session, Weighed

CONNECTIONS = (1, 16, 64)
SECONDS = 1.2
TWO = "nginx, 2 workers"


def _measure(connections: int) -> Measure:
    is_aimed_at = connections == 16
    return Measure(
        "rates", f"small requests/s, {connections} connection{'s' if connections > 1 else ''}", "/s", "more",
        lambda weighed: weighed.answers_per_s,
        {TWO: Limit("ratio", "least", 0.9)} if is_aimed_at else {}, [TWO] if is_aimed_at else [],
    )  # fmt: skip


def run(session: Session) -> list[Row]:
    """Every request with a fresh trace header, as callers' differ."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        proxies = (edge(session), nginx(session), nginx(session, workers=2))
        contenders = [stack.enter_context(proxy) for proxy in proxies]
        for whom in contenders:
            session.warm_up(whom)
        for connections in CONNECTIONS:

            def ask(whom: Contender, connections: int = connections) -> Weighed:
                return session.ask(whom, connections=connections, seconds=SECONDS, is_fresh=True)

            measure = _measure(connections)
            rows += measure.rows(session.in_turn(measure.what, contenders, ask))
    return rows
