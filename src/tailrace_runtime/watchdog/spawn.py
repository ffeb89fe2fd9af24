"""A process on pipes of its own, for a program that may leave others running.

Not by uvloop: its children have their pipes twice, the second time under numbers that nobody knows (0.23,
measured). A job that the program starts, sends to /dev/null and leaves would hold them, and so the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from subprocess import PIPE
from typing import IO

from tailrace_runtime.watchdog.tree import kill_tree

# How long what it wrote last may take to arrive after its end: somebody that it left may hold its stderr.
LAST_WORDS_S = 0.5


class Process:
    """A process that runs, its pipes as streams; `end` gives all of it back. `start` makes one."""

    def __init__(self, popen: subprocess.Popen[bytes], limit: int) -> None:
        self._popen = popen
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._transports: list[asyncio.BaseTransport] = []
        self.stdin: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs, or its end was not seen yet."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait until it is gone; its exit code."""
        return await asyncio.shield(self._gone)

    async def end(self, readers: Sequence[asyncio.Future[None]]) -> None:
        """Kill it and its descendants where it still runs; who reads its pipes may finish in LAST_WORDS_S."""
        if self.returncode is None:
            kill_tree(self.pid)
        await self.wait()
        await asyncio.wait(readers, timeout=LAST_WORDS_S)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for transport in self._transports:
            transport.close()

    async def connect(self) -> None:
        """Watch for its end, and make streams of its pipes."""
        self._watch()
        self.stdin = await self._write_to(self._popen.stdin)
        self.stdout = await self._read_from(self._popen.stdout)
        self.stderr = await self._read_from(self._popen.stderr)

    def _watch(self) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # macOS, or a sandbox
            threading.Thread(target=self._wait_in_thread, daemon=True).start()
        else:
            self._loop.add_reader(handle, self._take_end, handle)

    def _take_end(self, handle: int) -> None:
        self._loop.remove_reader(handle)
        os.close(handle)
        self._tell(self._popen.wait())

    def _wait_in_thread(self) -> None:
        code = self._popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, code)

    def _tell(self, code: int) -> None:
        if not self._gone.done():
            self._gone.set_result(code)

    async def _read_from(self, pipe: IO[bytes] | None) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(self._limit)
        transport, _ = await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)
        return reader

    async def _write_to(self, pipe: IO[bytes] | None) -> asyncio.StreamWriter:
        # The protocol of a reader, because it knows when a writer has to wait.
        transport, protocol = await self._loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
        )
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, self._loop)


async def start(command: Sequence[str], env: Mapping[str, str], *, limit: int) -> Process:
    """Start a program.

    Args:
        limit: Bytes that each of its two outputs may have unread, twice.
    Raises:
        OSError, ValueError: it cannot be started.
    """
    popen = subprocess.Popen(  # noqa: ASYNC220, S603  # as long as uvloop's; the function's own command
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, bufsize=0
    )
    process = Process(popen, limit)
    try:
        await process.connect()
    except BaseException:
        await asyncio.shield(process.end(()))
        raise
    return process
