"""One run of a program beside the gateway: it is found, started, heard and ended here."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_LIFELINE = Path(__file__).with_name("lifeline.py")
# What any program gets of the gateway's environment.
_PASSED = ("PATH", "LANG", "TZ", "TMPDIR")
_QUOTED_LINES = 8

# Takes a line that the program wrote; gives back what of it is worth quoting when it ends, or None.
Hear = Callable[[str], str | None]


def find_program(name: str, package: str) -> Path | None:
    """The program that a package brought, not one of that name in the PATH; None where there is none."""
    with suppress(PackageNotFoundError):
        for file in distribution(package).files or ():
            path = Path(str(file.locate()))
            if file.name == name and path.is_file():
                return path.resolve()
    return None


class Child:
    """A program that runs. `start` makes one; nothing of it is left after `aclose`, nor after our own end."""

    def __init__(self, process: asyncio.subprocess.Process, hear: Hear) -> None:
        self._process = process
        self._hear = hear
        self._words: deque[str] = deque(maxlen=_QUOTED_LINES)
        self._end = asyncio.create_task(self._live(), name="child")

    @classmethod
    async def start(
        cls, command: Sequence[str | Path], hear: Hear, *, folder: Path, env: Mapping[str, str] | None = None,
        line: str = "", fds: Sequence[int] = (),
    ) -> Child:  # fmt: skip
        """Start it; returns as soon as its process runs.

        Args:
            folder: Where it runs.
            env: Added to the few variables that any program gets.
            line: Its standard input.
            fds: Descriptors that it inherits under the same numbers.
        """
        environ = {key: os.environ[key] for key in _PASSED if key in os.environ} | dict(env or {})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LIFELINE), ",".join(map(str, fds)), *map(str, command),
            pass_fds=fds, env=environ, cwd=folder, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None  # a pipe was asked for; it is the lifeline and stays open
        process.stdin.write(line.encode() + b"\n")
        return cls(process, hear)

    async def wait_gone(self) -> int:
        """Its exit code, once it has ended and all it wrote is heard; minus the signal where one ended it."""
        return await asyncio.shield(self._end)

    async def aclose(self, term_s: float) -> None:
        """End it: TERM, and KILL when it has not ended so many seconds later."""
        for number, wait_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, None)):
            if not self._end.done():
                self._signal(number)
                await asyncio.wait([self._end], timeout=wait_s)

    def quote(self) -> str:
        """Its last words, to be put after a sentence about it; empty where it said nothing."""
        words = "\n".join(self._words)
        return f"; its last words:\n{words}" if words else ""

    async def _live(self) -> int:
        hearing = asyncio.create_task(self._listen(), name="words of a child")
        code = await self._process.wait()
        self._signal(signal.SIGKILL)  # its keeper may have been killed alone
        await hearing
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    async def _listen(self) -> None:
        """Take what it writes until it has ended. A line is at most 64 KiB; more of one is left out."""
        stderr = self._process.stderr
        assert stderr is not None  # a pipe was asked for
        while True:
            try:
                data = await stderr.readline()
            except ValueError:
                continue
            if not data:
                return
            quoted = self._hear(data.decode("utf-8", "replace").rstrip("\n"))
            if quoted is not None:
                self._words.append(quoted)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(self._process.pid, number)
