"""CPU of the edge per small request and per streamed chunk, beside nginx, before the same upstream.

Both proxies are driven in turn, round after round, so that a machine that changes its speed changes it
for both; what is printed is the median over the rounds and the ratio of each round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.load import small_requests, streams
from bench.machine import cpu_s, nginx, python, raise_file_limit

STREAMS = 64
CHUNKS = 40
GAP_MS = 25


@dataclass(frozen=True)
class Cost:
    """What one round cost a proxy. Seconds are CPU, of all its processes."""

    units: int
    seconds: float
    per_second: float

    @property
    def us(self) -> float:
        return self.seconds / max(1, self.units) * 1e6


def weigh(pids: list[int], work: Callable[[], Coroutine[None, None, int]], wall_s: float) -> Cost:
    """Run the work and count what these processes spent on each unit of it."""
    before = cpu_s(pids)
    units = uvloop.run(work())
    return Cost(units, cpu_s(pids) - before, units / wall_s)


def requests_of(port: int, path: str, seconds: float) -> Callable[[], Coroutine[None, None, int]]:
    return lambda: small_requests(port, connections=16, seconds=seconds, path=path)


def chunks_of(port: int, path: str) -> Callable[[], Coroutine[None, None, int]]:
    request = b"GET %b/stream?n=%d&gap_ms=%d HTTP/1.1\r\nHost: a\r\n\r\n" % (path.encode(), CHUNKS, GAP_MS)

    async def run() -> int:
        seen = await streams(port, count=STREAMS, request=request, limit_s=60)
        assert seen.completed == STREAMS, f"only {seen.completed} of {STREAMS} streams completed"
        return seen.events

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of small requests, per round and proxy")
    args = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="tr-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user, and the socket lies here
        path = str(folder / "source.sock")
        with (
            python("bench.source", path),
            python("bench.edge", path) as (edge_pid, edge_port),
            nginx(folder, path) as (nginx_pids, nginx_port),
        ):
            (folder / "source.sock").chmod(0o777)
            edge: list[tuple[Cost, Cost]] = []
            other: list[tuple[Cost, Cost]] = []
            stream_s = CHUNKS * GAP_MS / 1000
            for round_ in range(args.rounds + 1):
                ours = (
                    weigh(
                        [edge_pid], requests_of(int(edge_port), "/function/fn/", args.seconds), args.seconds
                    ),
                    weigh([edge_pid], chunks_of(int(edge_port), "/function/fn"), stream_s),
                )
                theirs = (
                    weigh(nginx_pids, requests_of(nginx_port, "/function/fn/", args.seconds), args.seconds),
                    weigh(nginx_pids, chunks_of(nginx_port, "/function/fn"), stream_s),
                )
                if round_:  # the first one warms up
                    edge.append(ours)
                    other.append(theirs)
                    print(
                        f"round {round_}: request {ours[0].us:6.1f} us / nginx {theirs[0].us:6.1f} us, "
                        f"chunk {ours[1].us:6.1f} us / nginx {theirs[1].us:6.1f} us",
                        flush=True,
                    )
    print(f"\n{'CPU, median':24}{'tailrace':>12}{'nginx':>12}{'ratio':>8}{'min':>7}{'max':>7}")
    for index, what in ((0, "per small request"), (1, "per streamed chunk")):
        ratios = [ours[index].us / theirs[index].us for ours, theirs in zip(edge, other, strict=True)]
        print(
            f"{what:24}{statistics.median(o[index].us for o in edge):9.1f} us"
            f"{statistics.median(t[index].us for t in other):9.1f} us"
            f"{statistics.median(ratios):8.2f}{min(ratios):7.2f}{max(ratios):7.2f}"
        )
    rates = [statistics.median(side[0].per_second for side in sides) for sides in (edge, other)]
    print(f"{'small requests/s, 16 c.':24}{rates[0]:12,.0f}{rates[1]:12,.0f}{rates[0] / rates[1]:8.2f}")
    print(
        f"nginx: one worker, proxy_buffering off. Streams: {STREAMS} at once, {1000 // GAP_MS} events/s each."
    )


if __name__ == "__main__":
    main()
