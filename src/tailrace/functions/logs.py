"""What functions wrote, in memory: a bounded tail per function, and followers that may be slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from tailrace.model import LogLine
from tailrace.names import FunctionName

# A follower that reads slower than functions write loses the oldest lines beyond this many.
FOLLOWER_LINES = 10_000


class Follower:
    """An endless iterator of lines written from now on. Lines it was too slow for are counted."""

    def __init__(self, name: FunctionName | None) -> None:
        self.name = name
        self.dropped = 0
        self._lines: deque[LogLine] = deque()
        self._arrived = asyncio.Event()

    def offer(self, line: LogLine) -> None:
        if len(self._lines) >= FOLLOWER_LINES:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[LogLine]:
        return self

    async def __anext__(self) -> LogLine:
        while not self._lines:
            self._arrived.clear()
            await self._arrived.wait()
        return self._lines.popleft()


class LogStore:
    """The last ``lines`` log lines of every function. Belongs to one event loop."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._tails: dict[FunctionName, deque[LogLine]] = {}
        self._followers: set[Follower] = set()

    def write(self, line: LogLine) -> None:
        """Keep a line and hand it to whoever follows."""
        tail = self._tails.get(line.function)
        if tail is None:
            tail = self._tails[line.function] = deque(maxlen=self._lines)
        tail.append(line)
        for follower in self._followers:
            if follower.name is None or follower.name == line.function:
                follower.offer(line)

    def tail(self, name: FunctionName, *, since_ns: int = 0, limit: int | None = None) -> list[LogLine]:
        """Kept lines since a moment (Unix nanoseconds), oldest first, at most the last ``limit``."""
        found = [line for line in self._tails.get(name, ()) if line.timestamp_ns >= since_ns]
        return found if limit is None else found[len(found) - min(limit, len(found)) :]

    def forget(self, name: FunctionName) -> None:
        """Drop what a removed function wrote."""
        self._tails.pop(name, None)

    @contextmanager
    def follow(self, name: FunctionName | None = None) -> Iterator[Follower]:
        """Lines written while the context is open, of one function or of all."""
        follower = Follower(name)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
