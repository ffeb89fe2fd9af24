"""Standard output for a process that must never wait for whoever reads it: a gateway carries streams.

A pipe that nobody reads, or a terminal that is held with Ctrl-S, would stop a plain `write`, and every
call with it. Here a thread of its own waits instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable

# Kept for a reader that is slow; beyond it nothing is taken.
LIMIT_BYTES = 1024 * 1024
# What a reader has at the end to take what is left.
CLOSE_S = 0.5


class Outlet:
    """Takes text and bytes in order and has them written to a file descriptor.

    Owns: a thread, until `aclose`. Belongs to one event loop.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._text: list[str] = []
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._room = asyncio.Event()
        self._lost = asyncio.Event()
        self._ended = asyncio.Event()
        # A thread that waits for a reader which never comes must not keep the process.
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    # What a text stream offers.

    def write(self, text: str) -> int:
        """Keep text until `flush`."""
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Have what was written so far written out. It is dropped when there is no room."""
        text, self._text = "".join(self._text), []
        if text:
            self.offer(text.encode("utf-8", "replace"))

    def offer(self, data: bytes) -> bool:
        """Have bytes written out; False, and nothing is taken, when there is no room."""
        with self._changed:
            if self._bytes + len(data) > LIMIT_BYTES:
                return False
            self._waiting.append(data)
            self._bytes += len(data)
            self._changed.notify()
        return True

    @property
    def has_room(self) -> bool:
        """Whether half of the room is free."""
        return self._bytes <= LIMIT_BYTES // 2

    async def wait_room(self) -> None:
        """Wait until half of the room is free."""
        while not self.has_room:
            self._room.clear()
            await self._room.wait()

    async def wait_lost(self) -> None:
        """Wait without end, unless the reader leaves.

        Raises:
            BrokenPipeError: nobody reads what is written; it goes nowhere from now on.
        """
        await self._lost.wait()
        raise BrokenPipeError

    async def aclose(self) -> None:
        """Write out what is left, for 0.5 s at most, and stop."""
        self.flush()
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._ended.wait()

    def _run(self) -> None:
        is_lost = False
        while True:
            with self._changed:
                while not self._waiting and not self._is_closing:
                    self._changed.wait()
                if not self._waiting:
                    break
                data = b"".join(self._waiting)
                self._waiting.clear()
            try:
                if not is_lost:
                    self._write_all(data)
            except OSError:
                is_lost = True
                self._tell(self._lost.set)
            with self._changed:
                self._bytes -= len(data)
            self._tell(self._room.set)
        self._tell(self._ended.set)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(what)


@contextlib.asynccontextmanager
async def open_outlet(fd: int) -> AsyncIterator[Outlet]:
    """An outlet while the context is open."""
    outlet = Outlet(fd)
    try:
        yield outlet
    finally:
        await outlet.aclose()
