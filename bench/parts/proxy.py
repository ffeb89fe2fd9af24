"""What a request and a chunk cost the edge in CPU, beside nginx and a proxy written with aiohttp."""

from __future__ import annotations

import contextlib

from bench.native import Paced
from bench.proxies import aiohttp_proxy, edge, nginx
from bench.rows import Limit, Row
from bench.session import Contender, Measure, Session, Weighed
from tailrace.cli.datapath import data_path

CONNECTIONS = 16
REQUESTS_S = 1.2
# An event that comes alone costs a wake-up of everybody; events that come together share it. So what a chunk
# costs depends on how busy a proxy is: here with a few thousand events/s, and with most of a core's worth.
QUIET = Paced(64, 60, 25, ramp_s=0.1)
BUSY = Paced(1000, 40, 50, ramp_s=0.5)


def _us_per_answer(weighed: Weighed) -> float:
    return weighed.us_per_answer


SAME = Measure(
    "proxy", f"CPU per small request, {CONNECTIONS} connections, headers always the same", "us", "less",
    _us_per_answer, {"nginx": Limit("ratio", "most", 1.4)}, ["nginx"],
)  # fmt: skip
FRESH = Measure(
    "proxy", f"CPU per small request, {CONNECTIONS} connections, a fresh trace header each", "us", "less",
    _us_per_answer, {"nginx": Limit("ratio", "most", 1.4)}, ["nginx", "aiohttp"],
)  # fmt: skip


def _chunk(paced: Paced) -> Measure:
    return Measure(
        "proxy", f"CPU per chunk, {paced.streams:,} streams of {1000 // paced.gap_ms} events/s", "us", "less",
        lambda weighed: weighed.us_per_event, {"nginx": Limit("ratio", "most", 1.1)},
        ["nginx", "aiohttp"] if paced is BUSY else ["nginx"],
    )  # fmt: skip


def run(session: Session) -> list[Row]:
    """Requests with and without a header that is new each time, then chunks."""
    with contextlib.ExitStack() as stack:
        proxies = [edge(session), nginx(session), nginx(session, has_log=False), aiohttp_proxy(session)]
        if data_path() == "compiled":
            proxies.append(edge(session, is_pure=True))
        contenders = [stack.enter_context(proxy) for proxy in proxies]
        for whom in contenders:
            session.warm_up(whom)

        def same(whom: Contender) -> Weighed:
            return session.ask(whom, connections=CONNECTIONS, seconds=REQUESTS_S)

        def fresh(whom: Contender) -> Weighed:
            return session.ask(whom, connections=CONNECTIONS, seconds=REQUESTS_S, is_fresh=True)

        rows = [
            *SAME.rows(session.in_turn("small requests, same headers", contenders, same)),
            *FRESH.rows(session.in_turn("small requests, fresh header", contenders, fresh)),
        ]
        for paced in (QUIET, BUSY):

            def stream(whom: Contender, paced: Paced = paced) -> Weighed:
                return session.stream(whom, paced)

            measure = _chunk(paced)
            rows += measure.rows(session.in_turn(measure.what, contenders, stream))
        return rows
