"""The asyncio server: all connections of a replica, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import uvloop

from tailrace_runtime.calls import EXIT_RETIRED, RETIRE_BOUND_S, STUCK, Calls
from tailrace_runtime.exchange import AsyncApp, Exchange
from tailrace_runtime.journal import Journal
from tailrace_runtime.report import Reporter


class Server:
    """What the connections of a replica share."""

    def __init__(self, app: AsyncApp, journal: Journal, reporter: Reporter) -> None:
        self.loop = asyncio.get_running_loop()
        self.app = app
        self.journal = journal
        self.calls = Calls()
        self.connections: set[Exchange] = set()
        self._reporter = reporter
        self._listening: asyncio.Server | None = None
        self._left = self.loop.create_future()

    async def serve(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM was received and the last call is over. Closes: listener."""
        self._listening = await self.loop.create_unix_server(
            lambda: Exchange(self), sock=listener, backlog=2048
        )
        self.loop.add_signal_handler(signal.SIGTERM, self.drain)
        on_ready()
        await self._left

    def drain(self) -> None:
        """Stop accepting; leave when the running calls are over."""
        if not self.calls.is_leaving:
            self.calls.when_clear(lambda: self._left.set_result(None))
            self._stop_taking()

    def retire(self, stuck: Exchange) -> None:
        """Leave because a call cannot be stopped: the others may finish, within RETIRE_BOUND_S."""
        if not self.calls.is_leaving:
            self._stop_taking()
            self._reporter.retiring(STUCK)
            self.loop.call_later(RETIRE_BOUND_S, os._exit, EXIT_RETIRED)
            self.calls.when_clear(lambda: os._exit(EXIT_RETIRED))
        self.calls.give_up(stuck)

    def _stop_taking(self) -> None:
        assert self._listening is not None, "serve came first"
        self._listening.close()
        for connection in list(self.connections):
            connection.close_idle()


def serve_async(
    listener: socket.socket,
    app: AsyncApp,
    journal: Journal,
    reporter: Reporter,
    on_ready: Callable[[], None],
    *,
    lifespan: AbstractAsyncContextManager[object] | None = None,
) -> None:
    """Run the server on uvloop until it has drained.

    Args:
        on_ready: Called once connections are accepted.
        lifespan: Entered before that, left after the last call. What it raises is raised.
    """

    async def run() -> None:
        async with lifespan or contextlib.nullcontext():
            await Server(app, journal, reporter).serve(listener, on_ready)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
