"""A real edge before a replica that streams, pauses where it hurts, and ends or dies.

Heartbeats are on and quick, so that every pause puts something of the edge's own into the stream. Whatever
the pieces are, a client must see the function's own events, no other, and a truthful end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from tests.kit import oracle
from tests.kit.edge import EdgeUnderTest, edge_before, read_request
from tests.kit.mutants import chunk
from tests.kit.oracle import Answered

HEARTBEAT_S = 0.05
PAUSE_S = 0.13
DEADLINE_S = 10.0
# One stream is sent so many times at once, each time cut elsewhere.
AT_ONCE = 12
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n"
_MARK = b"\xef\xbb\xbf"
_KINDS = (
    (b"text/event-stream", b""),
    (b"text/event-stream", b"X-Tailrace-Dialect: native\r\n"),
    (b"text/event-stream", b"x-vercel-ai-ui-message-stream: v1\r\n"),
    (b"application/x-ndjson", b""),
    (b"text/plain", b""),
)

Ending = Literal["end", "die", "fault"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the replica answers one request: its pieces with pauses between them, and how it ends."""

    kind: tuple[bytes, bytes]
    pieces: list[bytes]
    ending: Ending


@dataclass
class StreamTap:
    """One running edge. Use it from one task at a time."""

    edge: EdgeUnderTest
    faults: list[str]
    plans: dict[bytes, Plan] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The replica: each request's path names its plan."""
        while True:
            head, _ = await read_request(reader)
            plan = self.plans[head.split(b" ", 2)[1]]
            writer.write(_HEAD % plan.kind)
            for at, piece in enumerate(plan.pieces):
                if at:
                    await asyncio.sleep(PAUSE_S)
                writer.write(chunk(piece) if piece else b"")
            if plan.ending != "end":
                writer.write(b"1;tailrace-fault\r\n" if plan.ending == "fault" else b"")
                return
            writer.write(b"0\r\n\r\n")

    async def check(self, data: bytes) -> None:
        """However this stream is cut, its client gets its events, and the truth about its end.

        A byte order mark is taken off: behind an early heartbeat it would not stand at the beginning any
        more, and hide the first event. No server of event streams was seen to send one.
        """
        while data.startswith(_MARK):
            data = data.removeprefix(_MARK)
        rng = random.Random(zlib.crc32(data))
        kind = rng.choice(_KINDS)
        self.plans = {}
        for n in range(AT_ONCE):
            cut = rng.randrange(len(data) + 1)
            ending: Ending = rng.choice(("end", "end", "die", "fault"))
            self.plans[b"/%d" % n] = Plan(kind, [data[:cut], data[cut:]], ending)
        async with asyncio.timeout(DEADLINE_S):
            found = await asyncio.gather(*(self._ask(path) for path in self.plans))
        assert not self.faults, self.faults
        assert [replica.in_flight for replica in self.edge.function.ready] == [0], "a place leaked"
        for plan, (raw, is_clean) in zip(self.plans.values(), found, strict=True):
            _compare(plan, raw, is_clean=is_clean)

    async def _ask(self, path: bytes) -> tuple[bytes, bool]:
        reader, writer = await self.edge.connect()
        raw = b""
        try:
            writer.write(b"GET /function/fn%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
            while piece := await reader.read(65536):
                raw += piece
        except ConnectionResetError:
            return raw, False
        finally:
            writer.transport.abort()
        return raw, True


def _compare(plan: Plan, raw: bytes, *, is_clean: bool) -> None:
    data = b"".join(plan.pieces)
    whole = oracle.h11_reply(raw, is_over=is_clean)
    assert isinstance(whole, Answered), f"{plan}: {whole}"
    if whole.status == 502:
        assert plan.ending == "die" or (plan.ending == "fault" and not data), plan
        return
    if whole.status == 500:
        assert plan.ending == "fault", plan
        return
    if plan.kind[0] == b"text/event-stream":
        _compare_events(plan, data, whole.body if whole.body is not None else oracle.h11_part(raw), whole)
    elif whole.body is None:
        assert plan.ending != "end", f"cut: {plan}"
        assert data.startswith(oracle.h11_part(raw))
    elif plan.ending == "end":
        assert whole.body == data, f"{plan}: {whole.body!r}"
    else:
        _told_as_json(plan, data, whole.body)


def _told_as_json(plan: Plan, data: bytes, body: bytes) -> None:
    assert plan.kind[0] == b"application/x-ndjson", f"a clean end: {plan}"
    *lines, last, rest = body.split(b"\n")
    assert rest == b""
    assert "error" in json.loads(last), f"a clean end: {plan}"
    assert data.startswith(b"".join(line + b"\n" for line in lines))


def _compare_events(plan: Plan, data: bytes, body: bytes, whole: Answered) -> None:
    """The events are the function's, and a broken stream has an error behind them or is cut."""
    made = [(event.data, event.event) for event in oracle.browser_events(data)]
    got = [(event.data, event.event) for event in oracle.browser_events(body)]
    if whole.body is None:
        assert plan.ending != "end", f"cut: {plan}"
        assert made[: len(got)] == got, f"{plan}: {got}"
        return
    if plan.ending == "end":
        assert made == got, f"{plan}: {body!r}"
        assert data in _without_pings(body), f"bytes were changed: {plan}: {body!r}"
        return
    told = 1 if not got or got[-1][1] != "end" or not plan.kind[1].startswith(b"X-Tailrace") else 2
    own, error = got[: len(got) - told], got[len(got) - told][0]
    told_by = ("function_failed", "errorText", "replica_failed")
    assert any(mark in error for mark in told_by), f"a clean end: {plan}"
    assert made[: len(own)] == own, f"{plan}: {own}"
    if b"\r" not in data.replace(b"\r\n", b""):  # only a CR may leave it open whether an event has ended
        assert made == own, f"an event was lost: {plan}: {own}"


def _without_pings(body: bytes) -> tuple[bytes, ...]:
    """The body without the edge's heartbeats, in either of their forms."""
    return body.replace(b": ping\n\n", b""), body.replace(b": ping\n", b"")


@contextlib.asynccontextmanager
async def stream_tap(faults: list[str]) -> AsyncIterator[StreamTap]:
    """A running tap. What is put into ``faults`` fails its checks."""
    taps: list[StreamTap] = []

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taps[0].serve(reader, writer)

    async with edge_before(replica, heartbeat_s=HEARTBEAT_S) as under_test:
        taps.append(StreamTap(under_test, faults))
        try:
            yield taps[0]
        finally:
            under_test.stop_replicas()
