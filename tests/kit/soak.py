"""The long run of the fuzzers: ``scripts/soak fuzz --seconds 300``.

Each target gets its share of the time, in turns. A case that fails is made small and written into the
corpus, where `tests/fuzz` runs it from then on; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.kit.fuzzing import EDGE_TARGETS, PARSERS, Target, edge_loop, fault, keep, shrunk

# One target's turn. An edge lives for one turn, so what it keeps per connection stays small.
TURN_S = 5.0


class Run:
    """Counts and findings of one long run."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.cases: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.found: dict[tuple[str, str], str] = {}

    def turn(self, target: Target, until: float) -> None:
        """Run cases of one target until this moment, in monotonic seconds."""
        seeds = target.seeds()
        began = time.monotonic()
        while time.monotonic() < until:
            data = target.case(self._rng, seeds)
            self.cases[target.name] += 1
            words = fault(target.check, data)
            kind = (target.name, words[:40])
            if not words or kind in self.found:
                continue
            path = keep(target.name, shrunk(target.check, data))
            self.found[kind] = words
            print(f"FOUND {target.name}: {words}\n      {path}", flush=True)
        self.seconds[target.name] += time.monotonic() - began  # type: ignore[assignment]  # a float is fine

    def table(self) -> str:
        """Cases and cases per second of each target."""
        lines = [f"{'target':14}{'cases':>12}{'per second':>12}"]
        for name, cases in self.cases.items():
            lines.append(f"{name:14}{cases:>12,}{cases / max(self.seconds[name], 0.001):>12,.0f}")
        return "\n".join(lines)


def main() -> int:
    """Run until the time is over; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="scripts/soak fuzz", description="Fuzz the wire and the edge.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the cases; without it every run is another"
    )
    names = [*(target.name for target in PARSERS), *EDGE_TARGETS]
    parser.add_argument("--only", choices=names, help="one target")
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    print(f"fuzzing for {args.seconds:g} s, seed {seed}", flush=True)
    run = Run(random.Random(seed))
    turn_s = min(TURN_S, args.seconds / (1 if args.only else len(names)))  # each has at least one turn
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        for target in PARSERS:
            if args.only in (None, target.name):
                run.turn(target, min(end, time.monotonic() + turn_s))
        for name in EDGE_TARGETS:
            if args.only in (None, name):
                with edge_loop() as loop:
                    run.turn(loop.targets()[name], min(end, time.monotonic() + turn_s))
    print(run.table())
    print(f"{len(run.found)} findings" if run.found else "nothing found")
    return 1 if run.found else 0


if __name__ == "__main__":
    sys.exit(main())
