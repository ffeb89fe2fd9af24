"""The fuzzed parts of Tailrace, the corpus of what once broke them or others, and how a case is made small.

A case is bytes. Its target's check raises when something that must hold does not; the bytes alone
reproduce it. `tests/fuzz` runs a bounded number of cases, ``scripts/soak fuzz`` as many as time allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.kit import checks, hostile, mutants, replies
from tests.kit.hostile import Outcome
from tests.kit.replies import Got
from tests.kit.streamtap import StreamTap, stream_tap
from tests.kit.tap import EdgeTap, edge_tap, loop_faults

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"

Check = Callable[[bytes], None]
_REQUESTS = [case.data for case in hostile.REQUESTS]
_REPLIES = [reply.data for reply in replies.REPLIES]
_TRICKS = {"request": _REQUESTS, "conversation": _REQUESTS, "reply": _REPLIES, "answer": _REPLIES}


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is fuzzed: what makes its cases, and what judges them."""

    name: str
    make: Callable[[random.Random], bytes]
    check: Check

    def seeds(self) -> list[bytes]:
        """The corpus of this target, and the named tricks for it."""
        tricks = _TRICKS.get(self.name, [])
        return [*tricks, *(path.read_bytes() for path in files(self.name))]

    def case(self, rng: random.Random, seeds: list[bytes]) -> bytes:
        """A case: made anew, or a seed with a few scratches, or one seed behind another."""
        kind = rng.randrange(6) if seeds else 5
        if kind == 0:
            return mutants.scratched(rng, rng.choice(seeds))
        if kind == 1:
            return rng.choice(seeds) + self.make(rng)
        return self.make(rng)


PARSERS = (
    Target("request", mutants.request, checks.check_request),
    Target("reply", mutants.reply, checks.check_reply),
    Target("chunked", mutants.bent_chunked, checks.check_chunked),
    Target("events", mutants.events, checks.check_events),
)
EDGE_TARGETS = ("conversation", "answer", "stream")


class EdgeLoop:
    """Running edges on a loop of their own, to be used from synchronous code."""

    def __init__(self, runner: asyncio.Runner, tap: EdgeTap, streams: StreamTap) -> None:
        self._runner = runner
        self._tap = tap
        self._streams = streams

    def check_conversation(self, data: bytes) -> None:
        """`EdgeTap.check_conversation`."""
        self._runner.run(self._tap.check_conversation(data))

    def check_answer(self, data: bytes) -> None:
        """`EdgeTap.check_answer`."""
        self._runner.run(self._tap.check_answer(data))

    def check_stream(self, data: bytes) -> None:
        """`StreamTap.check`."""
        self._runner.run(self._streams.check(data))

    def outcome(self, data: bytes, pieces: list[bytes] | None = None) -> tuple[Outcome, ...]:
        """`EdgeTap.outcome`."""
        return self._runner.run(self._tap.outcome(data, pieces))

    def reply(self, data: bytes) -> Got:
        """`EdgeTap.reply`."""
        return self._runner.run(self._tap.reply(data))

    def targets(self) -> dict[str, Target]:
        """What is fuzzed with a running edge, by name."""
        return {
            "conversation": Target("conversation", mutants.conversation, self.check_conversation),
            "answer": Target("answer", mutants.reply, self.check_answer),
            "stream": Target("stream", mutants.events, self.check_stream),
        }


@contextlib.contextmanager
def edge_loop() -> Iterator[EdgeLoop]:
    """Running edges; they end with the context."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.ExitStack() as stack:
        context = _taps()
        tap, streams = runner.run(context.__aenter__())
        stack.callback(lambda: runner.run(context.__aexit__(None, None, None)))
        yield EdgeLoop(runner, tap, streams)


@contextlib.asynccontextmanager
async def _taps() -> AsyncIterator[tuple[EdgeTap, StreamTap]]:
    with loop_faults() as faults:
        async with edge_tap(faults) as tap, stream_tap(faults) as streams:
            yield tap, streams


def files(target: str) -> list[Path]:
    """The corpus files of a target, named by what they try."""
    return sorted((CORPUS / target).glob("*"))


def keep(target: str, data: bytes) -> Path:
    """Put a finding into the corpus; give the file a name that says what it tries before it is committed."""
    path = CORPUS / target / f"found-{zlib.crc32(data):08x}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fault(check: Check, data: bytes) -> str:
    """What a check says against these bytes, in one line; empty when it holds."""
    try:
        check(data)
    except Exception as error:  # what a parser must not raise is a finding too
        return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    return ""


def shrunk(check: Check, data: bytes, *, limit_s: float = 20.0) -> bytes:
    """The bytes without what is not needed for the check to fail in the same way (its first words)."""
    words = fault(check, data)[:24]
    step, deadline = max(1, len(data) // 2), time.monotonic() + limit_s
    while time.monotonic() < deadline:
        smaller = data
        at = 0
        while at < len(smaller) and time.monotonic() < deadline:
            candidate = smaller[:at] + smaller[at + step :]
            if fault(check, candidate)[:24] == words:
                smaller = candidate
            else:
                at += step
        if smaller == data and step == 1:
            return data
        step = max(1, step // 2) if smaller == data else min(step, max(1, len(smaller) // 2))
        data = smaller
    return data
