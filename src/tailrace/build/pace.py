"""How fast an upload has to come, and how many of one address may: nobody knows yet whose it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

from tailrace.errors import QueueFull, ReadTimeout


@dataclass(frozen=True, slots=True)
class Pace:
    """The least progress of an upload. Only time in which the client is waited for counts.

    Args:
        grace_s: Nothing is asked of the first seconds.
        window_s: From then on each so many seconds bring ``window_bytes`` at least.
        total_s: All of it within so long.
    """

    grace_s: float = 10.0
    window_s: float = 10.0
    window_bytes: int = 64 * 1024
    total_s: float = 300.0

    async def hold(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """The chunks as they come.

        Raises:
            ReadTimeout: they come too slowly.
        """
        loop = asyncio.get_running_loop()
        coming = aiter(chunks)
        waited_s, due_s, missing = 0.0, self.grace_s + self.window_s, self.window_bytes
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(min(due_s, self.total_s) - waited_s):
                    chunk = await anext(coming)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise ReadTimeout(self._why(is_total=self.total_s <= due_s)) from None
            waited_s, missing = waited_s + loop.time() - began, missing - len(chunk)
            if missing <= 0:
                due_s, missing = max(self.grace_s, waited_s) + self.window_s, self.window_bytes
            yield chunk

    def _why(self, *, is_total: bool) -> str:
        if is_total:
            return f"the build context did not come within {self.total_s:g} s"
        return (
            f"the build context comes too slowly: at least {self.window_bytes:,} bytes are expected every "
            f"{self.window_s:g} s"
        )


@dataclass(slots=True)
class _Turn:
    free: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True)
class Turns:
    """Uploads of one address at a time; more of them wait their turn, and hold nothing meanwhile.

    Args:
        at_once: How many come in at the same time.
        waiting: How many more wait, at most ``wait_s`` each.
    """

    at_once: int = 3
    waiting: int = 7
    wait_s: float = 10.0
    # Only those that somebody uses: as many as there are connections, at most.
    _known: dict[str, _Turn] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def take(self, address: str) -> AsyncIterator[None]:
        """This address's turn, until the context is left.

        Raises:
            QueueFull: it did not come, or too many wait for it.
        """
        turn = self._known.setdefault(address, _Turn(asyncio.Semaphore(self.at_once)))
        if turn.users >= self.at_once + self.waiting:
            raise self._full()
        turn.users += 1
        try:
            try:
                async with asyncio.timeout(self.wait_s):
                    await turn.free.acquire()
            except TimeoutError:
                raise self._full() from None
            try:
                yield
            finally:
                turn.free.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._known[address]

    def _full(self) -> QueueFull:
        return QueueFull(
            f"{self.at_once} build contexts of this address are coming already",
            hint="Try again when one of them has come.",
        )
