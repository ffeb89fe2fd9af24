"""The control plane's server: uvicorn on sockets of ours, without its hands on signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("uvicorn.error")

# What requests that are being answered may still take when the gateway stops.
IDLE_S = 0.3


class Cut(Exception):
    """Raised while an answer is being written: its connection is closed before its end."""


def _is_no_cut(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Cut))


class _Running:
    """An ASGI application that knows how many of its requests are being answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count += 1
        self._is_idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
            if not self._count:
                self._is_idle.set()

    async def wait_idle(self, timeout_s: float) -> None:
        """Wait until no request is being answered, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_stopping = asyncio.Event()

    def stop(self) -> None:
        """Cut what still runs, and end."""
        self.should_exit = self.force_exit = True
        self._is_stopping.set()

    async def main_loop(self) -> None:
        """Wait for `stop`, where uvicorn looks every 0.1 s; its date is renewed at each tick of ten."""
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._is_stopping.wait()

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
    try:
        # Its only client, the edge, keeps connections for as long as it likes.
        async with serving_on(app, sock, keep_alive_s=3600):
            yield
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # microseconds, at the very end


@contextlib.asynccontextmanager
async def serving_on(
    app: ASGIApp, sock: socket.socket, *, keep_alive_s: int
) -> AsyncIterator[Callable[[], None]]:
    """Serve app on a listening socket while the context is open; leaving cuts what still runs.

    What is yielded begins with the end, which takes 0.1 s, before the context is left.

    Closes: the socket.
    """
    running = _Running(app)
    config = uvicorn.Config(
        running, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1,
        server_header=False, timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    logger.addFilter(_is_no_cut)  # the same one again changes nothing
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield server.stop
    finally:
        server.stop()
        await running.wait_idle(IDLE_S)
        await task
        sock.close()
