"""What the edge counts: plain numbers, added to on the loop's thread, read by `/metrics`.

One `FunctionNumbers` per deployed function, so what is kept is bounded by what is deployed: names that
nobody deployed are counted nowhere by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

# Upper bounds in seconds. The Prometheus defaults, which OpenFaaS has, end at 10 s: an answer of a model
# takes longer.
CALL_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
# Time to first token is read between 100 ms and 5 s: there a bound is at most 1.5 times the one before.
FIRST_CONTENT_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5,
    3.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0,
)  # fmt: skip
# Tokens come 5 to 100 ms apart; a stall shows from 1 s on.
EVENT_GAP_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    15.0, 30.0, 60.0,
)  # fmt: skip
# Statuses told apart per function. A function could answer with every number of three digits; those it has
# beyond this are counted together, as OTHER_CODE.
CODES_LIMIT = 40
OTHER_CODE = -1


class Histogram:
    """How many observations fell below each bound.

    Attributes:
        bounds: Upper bounds, ascending; a value that equals one belongs to it.
        counts: Observations per bound, not cumulative, and one more for those above all bounds.
        total: Sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def copy(self) -> Histogram:
        """The same counts, on their own from now on."""
        twin = Histogram(self.bounds)
        twin.counts, twin.total = self.counts.copy(), self.total
        return twin


@dataclass(slots=True)
class CodeNumbers:
    """Calls that were answered with one status, and the seconds each took from its head to its end."""

    count: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(CALL_SECONDS))


@dataclass(slots=True)
class FunctionNumbers:
    """What is counted of one function.

    Attributes:
        started: Calls that came in, refused ones too.
        in_flight: Calls that hold a place on a replica now.
        ends: Calls by the reason they ended with.
        codes: Calls by the status the client got.
        first_content: Seconds from a call's head to the first event that carries data (in a plain body:
            the first byte); comments, heartbeats and control frames are none.
        event_gap: Seconds between two such events of one stream.
        events: Such events.
        open_streams: Answers that are being streamed now.
    """

    started: int = 0
    in_flight: int = 0
    ends: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    codes: dict[int, CodeNumbers] = field(default_factory=dict)
    first_content: Histogram = field(default_factory=lambda: Histogram(FIRST_CONTENT_SECONDS))
    event_gap: Histogram = field(default_factory=lambda: Histogram(EVENT_GAP_SECONDS))
    events: int = 0
    open_streams: int = 0

    def end(self, status: int, end_reason: str, total_s: float) -> None:
        """Count a call that is over. ``status`` is what the client was sent, or would have been."""
        self.ends[end_reason] += 1
        numbers = self.codes.get(status)
        if numbers is None:
            numbers = self._new_code(status)
        numbers.count += 1
        numbers.seconds.observe(total_s)

    def copy(self) -> FunctionNumbers:
        """The same numbers, on their own from now on."""
        return FunctionNumbers(
            started=self.started,
            in_flight=self.in_flight,
            ends=self.ends.copy(),
            codes={code: CodeNumbers(of.count, of.seconds.copy()) for code, of in self.codes.items()},
            first_content=self.first_content.copy(),
            event_gap=self.event_gap.copy(),
            events=self.events,
            open_streams=self.open_streams,
        )

    def _new_code(self, status: int) -> CodeNumbers:
        if len(self.codes) >= CODES_LIMIT:
            status = OTHER_CODE
        return self.codes.setdefault(status, CodeNumbers())


@dataclass(slots=True)
class Numbers:
    """What is counted in one gateway.

    Attributes:
        functions: By ``name.namespace``.
        connections_open: Clients connected now.
        connections_refused: Connections answered 503 because there were too many.
        requests_refused: Requests refused before their target was looked at.
        buffered_bytes: Bytes held for clients and replicas now, beside the sockets' own buffers.
        log_lines_dropped: Call log lines that found the buffer full.
    """

    functions: dict[str, FunctionNumbers] = field(default_factory=dict)
    connections_open: int = 0
    connections_refused: int = 0
    requests_refused: int = 0
    buffered_bytes: int = 0
    log_lines_dropped: int = 0

    def of(self, label: str) -> FunctionNumbers:
        """The numbers of ``name.namespace``, made at the first time."""
        numbers = self.functions.get(label)
        if numbers is None:
            numbers = self.functions[label] = FunctionNumbers()
        return numbers

    def forget(self, label: str) -> None:
        """Drop a removed function's numbers; calls of it that still run count into nothing."""
        self.functions.pop(label, None)
