"""What every part of the benchmarks works with: who is driven, how one load is weighed, and taking turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.machine import cpu_s, memory_kib
from bench.native import Paced, Programs, Seen, Source, read_seen, sink
from bench.rows import OURS, Limit, Row

SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers: its name in the tables, where, below which path, and its processes."""

    name: str
    address: str
    prefix: str
    pids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a sink saw, and what that cost the contender: CPU seconds, and memory above what it had before."""

    seen: Seen
    cpu_s: float
    grown_kib: float = 0.0

    @property
    def us_per_answer(self) -> float:
        return self.cpu_s / max(1, self.seen.completed) * 1e6

    @property
    def us_per_event(self) -> float:
        return self.cpu_s / max(1, self.seen.events) * 1e6

    @property
    def answers_per_s(self) -> float:
        return self.seen.completed / max(1e-9, self.seen.seconds)


Found = Mapping[str, list[Weighed]]


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the benchmarks.

    Attributes:
        source: The upstream of all proxies.
        failures: What of ours failed so far, which it must not.
    """

    programs: Programs
    folder: Path
    source: Source
    rounds: int
    is_quick: bool
    file_limit: int
    failures: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell how far it is, on stderr."""
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", file=sys.stderr, flush=True)

    def judge(self, what: str, whom: Contender, weighed: Weighed) -> None:
        """Tell what failed, and remember it if it is ours."""
        failed = weighed.seen.failed
        if failed.total:
            self.say(f"FAILED: {what}, {whom.name}: {failed}")
        if failed.total and whom.name == OURS:
            self.failures.append(f"{what}: {failed}")

    def direct(self) -> Contender:
        """The source itself, without anything before it."""
        return Contender("direct", self.source.address, "/", [self.source.pid])

    def ask(self, whom: Contender, *, connections: int, seconds: float, is_fresh: bool = False) -> Weighed:
        """Small requests for so many seconds (a quarter of them in a quick run)."""
        arguments = [
            *("requests", "--to", whom.address, "--path", whom.prefix, "--connections", str(connections)),
            *("--seconds", str(seconds / (4 if self.is_quick else 1)), *(["--fresh"] if is_fresh else [])),
        ]
        before = cpu_s(whom.pids)
        with sink(self.programs, arguments) as process:
            seen = read_seen(process)
        return Weighed(seen, cpu_s(whom.pids) - before)

    def stream(self, whom: Contender, paced: Paced) -> Weighed:
        """Streams at once, with the contender's memory looked at while they run."""
        before, memory = cpu_s(whom.pids), memory_kib(whom.pids)
        most = memory
        with sink(self.programs, paced.arguments(whom.address, whom.prefix)) as process:
            while process.process.poll() is None:
                most = max(most, memory_kib(whom.pids))
                time.sleep(SAMPLE_S)
            seen = read_seen(process)
        return Weighed(seen, cpu_s(whom.pids) - before, most - memory)

    def warm_up(self, whom: Contender) -> None:
        """Let it do everything once: what happens only the first time is not what is measured."""
        self.ask(whom, connections=16, seconds=0.4)
        self.stream(whom, Paced(16, 20, 10))

    def in_turn(
        self, what: str, contenders: Sequence[Contender], measure: Callable[[Contender], Weighed]
    ) -> Found:
        """Measure each contender in every round; each round begins with another one."""
        found: dict[str, list[Weighed]] = {contender.name: [] for contender in contenders}
        for turn in range(self.rounds):
            start = turn % len(contenders)
            for whom in [*contenders[start:], *contenders[:start]]:
                weighed = measure(whom)
                found[whom.name].append(weighed)
                self.say(f"{what}, round {turn + 1} of {self.rounds}, {whom.name}: {_words(weighed)}")
                self.judge(what, whom, weighed)
        return found


def _words(weighed: Weighed) -> str:
    seen = weighed.seen
    delay = f"delay {seen.latency_ms.p50:.2f} ms (p50), {seen.latency_ms.p99:.2f} (p99)"
    if seen.events:
        what = f"{seen.completed:,} streams, {weighed.us_per_event:.1f} us per event, {delay}"
    else:
        what = f"{weighed.answers_per_s:,.0f} answers/s, {weighed.us_per_answer:.1f} us each"
    return f"{what}; sink {seen.cpu_s:.1f} s CPU"


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of row: what it is called, and how its figure is taken from a weighing.

    ``limits`` and ``quoted`` name contenders: beside whom ours has a limit, and which rows the README shows.
    """

    part: str
    what: str
    unit: str
    better: Literal["less", "more"]
    pick: Callable[[Weighed], float]
    limits: Mapping[str, Limit] = field(default_factory=dict)
    quoted: Sequence[str] = ()

    def rows(self, found: Found, *, others: Sequence[str] | None = None) -> list[Row]:
        """A row for each contender that ours is compared with; all of them unless ``others`` names some."""
        names = [name for name in found if name != OURS] if others is None else others
        return [self._row(name, found[OURS], found[name]) for name in names]

    def _row(self, name: str, ours: list[Weighed], theirs: list[Weighed]) -> Row:
        return Row(
            self.part, self.what, self.unit, self.better,
            [self.pick(weighed) for weighed in ours], name, [self.pick(weighed) for weighed in theirs],
            self.limits.get(name), _failures(ours, theirs), name in self.quoted,
        )  # fmt: skip


def _failures(ours: list[Weighed], theirs: list[Weighed]) -> str:
    """Whose answers failed, and how many of them in the worst round; empty if none did."""
    sides = {"": theirs, f"{OURS}: ": ours}
    counts = {who: max(w.seen.failed.total for w in weighed) for who, weighed in sides.items()}
    return "; ".join(f"{who}{count:,} failed" for who, count in counts.items() if count)
