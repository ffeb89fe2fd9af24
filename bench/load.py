"""The clients of a benchmark: keep-alive requests in a loop, and streams whose events are timed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

SMALL_ANSWER_END = b"x" * 128


class Looper(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until told to stop."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request = request
        self.until = until
        self.answers = 0
        self.tail = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-128:]
        if self.tail != SMALL_ANSWER_END:
            return
        self.tail = b""
        self.answers += 1
        if time.monotonic() < self.until:
            self.transport.write(self.request)
        else:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def small_requests(port: int, *, connections: int, seconds: float, path: str) -> int:
    """Answers to ``GET path`` over keep-alive connections within about this many seconds."""
    loop = asyncio.get_running_loop()
    request = (
        b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n" % path.encode()
    )
    until = time.monotonic() + seconds
    loopers = []
    for _ in range(connections):
        _, looper = await loop.create_connection(lambda: Looper(request, until), "127.0.0.1", port)
        loopers.append(looper)
    await asyncio.wait_for(asyncio.gather(*(looper.over for looper in loopers)), seconds + 30)
    return sum(looper.answers for looper in loopers)


@dataclass
class Streams:
    """What many streams together saw. Times are seconds since each stream's request."""

    completed: int = 0
    broken: int = 0
    events: int = 0
    first_s: list[float] = field(default_factory=list)
    last_s: list[float] = field(default_factory=list)


class Stream(asyncio.Protocol):
    """One streamed answer, read to its end."""

    def __init__(self, request: bytes, result: Streams, mark: bytes) -> None:
        self.request = request
        self.result = result
        self.mark = mark
        self.has_begun = False
        self.tail = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.began = time.monotonic()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        events = data.count(self.mark)
        if events and not self.has_begun:
            self.has_begun = True
            self.result.first_s.append(time.monotonic() - self.began)
        self.result.events += events
        self.tail = (self.tail + data)[-7:]
        if self.tail.endswith(b"\r\n0\r\n\r\n"):
            self.result.completed += 1
            self.result.last_s.append(time.monotonic() - self.began)
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.result.broken += 1
            self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
        self.transport.abort()


async def streams(
    port: int, *, count: int, request: bytes, limit_s: float, mark: bytes = b"data: ", burst: int = 50
) -> Streams:
    """This many streams at once, each read to its end."""
    loop = asyncio.get_running_loop()
    result = Streams()
    running: list[Stream] = []
    for n in range(count):
        _, stream = await loop.create_connection(lambda: Stream(request, result, mark), "127.0.0.1", port)
        running.append(stream)
        if n % burst == burst - 1:
            await asyncio.sleep(0.01)
    done, pending = await asyncio.wait([s.over for s in running], timeout=limit_s)
    del done
    for late in pending:
        late.cancel()
    return result


def quantile(values: list[float], q: float) -> float:
    """The q-quantile of values (nearest rank); NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")
