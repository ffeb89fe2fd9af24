"""10,000 keep-alive connections that wait: what memory each costs, and that all are answered again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from bench.machine import cpu_s, memory_kib
from bench.native import read_seen, sink
from bench.proxies import edge, nginx
from bench.rows import OURS, Limit, Row
from bench.session import Contender, Measure, Session, Weighed

COUNT = 10_000
RAMP_S = 3.0
MEMORY_KIB = 8.0

MEMORY = Measure(
    "idle", f"memory per idle connection, {COUNT:,} of them", "KiB", "less",
    lambda weighed: weighed.grown_kib / COUNT, {"nginx": Limit("figure", "most", MEMORY_KIB)}, ["nginx"],
)  # fmt: skip
ANSWERED = Measure(
    "idle", f"requests answered, 2 on each of {COUNT:,} connections", "", "more",
    lambda weighed: weighed.seen.completed, {"nginx": Limit("figure", "least", 2 * COUNT)},
)  # fmt: skip


def _weigh(session: Session, whom: Contender) -> Weighed:
    arguments = ["idle", "--to", whom.address, "--path", whom.prefix]
    arguments += ["--connections", str(COUNT), "--ramp", str(RAMP_S)]
    before, memory = cpu_s(whom.pids), memory_kib(whom.pids)
    with sink(session.programs, arguments) as process:
        process.line()  # all are held
        grown = memory_kib(whom.pids) - memory
        process.ask_to_end()
        seen = read_seen(process)
    weighed = Weighed(seen, cpu_s(whom.pids) - before, grown)
    session.say(f"{COUNT:,} idle connections, {whom.name}: {grown / COUNT:.1f} KiB each")
    session.judge("idle connections", whom, weighed)
    return weighed


def run(session: Session) -> list[Row]:
    """Once each, in a fresh process: the figure does not hang on the machine's speed."""
    if session.file_limit < COUNT + 200:
        session.say(f"idle connections left out: the limit of open files is {session.file_limit}")
        return []
    openings: dict[str, Callable[[Session], contextlib.AbstractContextManager[Contender]]]
    openings = {OURS: edge, "nginx": nginx}
    found: dict[str, list[Weighed]] = {}
    for name, opening in openings.items():
        with opening(session) as whom:
            session.warm_up(whom)
            found[name] = [_weigh(session, whom)]
    return [*MEMORY.rows(found), *ANSWERED.rows(found)]
