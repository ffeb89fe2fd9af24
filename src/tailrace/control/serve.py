"""The control plane's server: uvicorn on a private unix socket, without its hands on signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's business, not this server's."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, path: Path) -> AsyncIterator[None]:
    """Serve app on a unix socket at path while the context is open; leaving cuts what still runs."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(1024)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1,
        server_header=False, timeout_keep_alive=3600,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task
        sock.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # microseconds, at the very end
