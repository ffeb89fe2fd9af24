"""What has come of one run, in memory: its head, its pieces, its end, and who waits for more of it."""

from __future__ import annotations

import asyncio

from tailrace.runs.marks import End, Head

# What is recorded of one run; beyond it the run goes on unrecorded.
RUN_LIMIT = 4 * 1024 * 1024
# What CPython holds of a piece beside its bytes: the object, and its place in the list.
_PIECE_BYTES = 41


class Log:
    """Grows at its end until ``end`` is set. Piece number ``seq`` is ``pieces[seq - 1]``."""

    __slots__ = ("_waiters", "end", "head", "pieces", "size")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.end: End | None = None
        self.pieces: list[bytes] = []
        self.size = 0
        self._waiters: list[asyncio.Future[None]] = []

    def add(self, piece: bytes) -> None:
        """One more piece; `wake` tells those who wait."""
        self.pieces.append(piece)
        self.size += len(piece)

    @property
    def held_bytes(self) -> int:
        """The memory that the pieces take, which is many times their bytes where they are tiny."""
        return self.size + _PIECE_BYTES * len(self.pieces)

    def wake(self) -> None:
        """Something has changed."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait_change(self, timeout_s: float | None) -> bool:
        """Wait until something changes; False when the time was over first."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiters:  # not woken: who left is not to be kept until something changes
                self._waiters.remove(waiter)
        return True
