"""Run the benchmarks, all of them or some: ``scripts/bench [PART ...] [--rounds N] [--quick] [--quote]``."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import msgspec

from bench.machine import facts, raise_file_limit
from bench.native import build, open_source
from bench.parts import idle, latency, proxy, rates, runtime, speed, streams
from bench.rows import Results, Row, page, quote, table
from bench.session import Session

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
PARTS: Mapping[str, Callable[[Session], list[Row]]] = {
    "proxy": proxy.run,
    "rates": rates.run,
    "latency": latency.run,
    "streams": streams.run,
    "speed": speed.run,
    "idle": idle.run,
    "runtime": runtime.run,
}
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUOTE = re.compile(r"(<!-- bench: scripts/bench --quote writes this -->\n).*?(<!-- end -->)", re.DOTALL)


def measure(names: list[str], *, rounds: int, is_quick: bool) -> tuple[Results, list[str]]:
    """Run these parts, one after the other, before one source; what they found, and what of ours failed."""
    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tr-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user, and the source's socket lies here
        programs = build(folder)
        with open_source(programs, folder / "source.sock") as source:
            session = Session(programs, folder, source, rounds, is_quick, raise_file_limit())
            for part in names:
                session.say(f"{part}: {(sys.modules[PARTS[part].__module__].__doc__ or '').splitlines()[0]}")
                rows += PARTS[part](session)
            sent = source.end()
            session.say(
                f"the source answered {sent.requests:,} requests with {sent.cpu_s:.1f} s CPU, was at most "
                f"{sent.behind_most_ms:.1f} ms late itself, and refused {sent.bad_requests} requests"
            )
            if sent.bad_requests:
                session.failures.append(f"the source got {sent.bad_requests} requests that it had to refuse")
    date = datetime.datetime.now().astimezone().date().isoformat()
    took_s = round(time.monotonic() - began, 1)
    return Results(date, facts(), rounds, took_s, round(load, 2), rows), session.failures


def save(results: Results) -> None:
    """Write the results as JSON and as a page."""
    RESULTS.mkdir(exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (RESULTS / f"{results.date}.json").write_bytes(text + b"\n")
    (RESULTS / f"{results.date}.md").write_text(page(results))


def newest() -> Results | None:
    """The results of the newest full run, if there is one."""
    found = sorted(RESULTS.glob("*.json"))
    return msgspec.json.decode(found[-1].read_bytes(), type=Results) if found else None


def quoted(readme: str, results: Results) -> str:
    """The README's text with the newest figures in their place."""
    return _QUOTE.sub(lambda m: f"{m[1]}{quote(results)}{m[2]}", readme)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=4, help="how often each contender has its turn")
    parser.add_argument("--quick", action="store_true", help="one short round: whether everything works")
    parser.add_argument("--quote", action="store_true", help="put the newest results into README.md, no run")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown or arguments.rounds < 1:
        parser.error(f"there is no part {', '.join(unknown)}; parts are {', '.join(PARTS)}" if unknown
                     else "--rounds is at least 1")  # fmt: skip
    return arguments


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    # Leaving ends the children: an impatient second Ctrl-C must not keep it from doing so.
    for known in _STOPS:
        signal.signal(known, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    for number in _STOPS:
        signal.signal(number, _stop)
    arguments = _arguments()
    if arguments.quote:
        results = newest()
        if results is None:
            sys.exit("error: there are no results to quote yet; run scripts/bench")
        README.write_text(quoted(README.read_text(), results))
        return
    is_whole = not arguments.parts and not arguments.quick
    results, failures = measure(
        arguments.parts or list(PARTS),
        rounds=1 if arguments.quick else arguments.rounds,
        is_quick=arguments.quick,
    )
    if is_whole:
        save(results)
        print(f"wrote bench/results/{results.date}.json and .md; to quote them: scripts/bench --quote",
              file=sys.stderr)  # fmt: skip
    print(table(results.rows), end="")
    if failures:
        sys.exit("error: calls failed:\n  " + "\n  ".join(failures))


if __name__ == "__main__":
    main()
