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

from tailrace_runtime import asgi
from tailrace_runtime.calls import EXIT_RETIRED, RETIRE_BOUND_S, STUCK, Calls
from tailrace_runtime.exchange import AsyncApp, Exchange
from tailrace_runtime.framing import health_reply
from tailrace_runtime.journal import Journal
from tailrace_runtime.loopwatch import LoopWatch
from tailrace_runtime.report import Reporter

_ADVICE = (
    "Await instead of blocking; what cannot be awaited belongs in a thread: `await asyncio.to_thread(...)`. "
    "It is here:\n"
)


class Server:
    """What the connections of a replica share."""

    def __init__(self, app: AsyncApp, journal: Journal, reporter: Reporter) -> None:
        self.loop = asyncio.get_running_loop()
        self.app = app
        self.journal = journal
        self.calls = Calls()
        self.connections: set[Exchange] = set()
        # Answers `/_/health` and `/_/ready` by path and method; None is the function's to answer.
        self.probe: Callable[[bytes, str], bytes | None] = _healthy
        self._reporter = reporter
        self._listening: asyncio.Server | None = None
        self._left = self.loop.create_future()
        self._watch = LoopWatch(
            journal,
            entries=frozenset((Exchange._run.__code__, asgi.RUN)),
            call_now=self._call_now,
            advice=_ADVICE,
        )

    async def serve(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM was received and the last call is over. Closes: listener."""
        is_unix = listener.family == socket.AF_UNIX
        listen = self.loop.create_unix_server if is_unix else self.loop.create_server
        self._listening = await listen(lambda: Exchange(self), sock=listener, backlog=2048)
        self.loop.add_signal_handler(signal.SIGTERM, self.drain)
        self._watch.start(self.loop.call_later)
        try:
            on_ready()
            await self._left
        finally:
            self._watch.stop()

    def drain(self) -> None:
        """Stop accepting; leave when the running calls are over."""
        if not self.calls.is_leaving:
            self.calls.when_clear(self.leave)
            self._stop_taking()

    def leave(self) -> None:
        """End `serve` now, whatever runs."""
        if not self._left.done():
            self._left.set_result(None)

    def retire(self, stuck: Exchange) -> None:
        """Leave because a call cannot be stopped: the others may finish, within RETIRE_BOUND_S."""
        if not self.calls.is_leaving:
            self._stop_taking()
            self._reporter.retiring(STUCK)
            self.loop.call_later(RETIRE_BOUND_S, os._exit, EXIT_RETIRED)
            self.calls.when_clear(lambda: os._exit(EXIT_RETIRED))
        self.calls.give_up(stuck)

    def _call_now(self) -> str:  # not in the loop's thread
        """The call on whose behalf a task runs that its handler made; Python 3.11 cannot tell."""
        context_of = getattr(asyncio.current_task(self.loop), "get_context", None)
        return self.journal.call_in(context_of()) if context_of else ""

    def _stop_taking(self) -> None:
        assert self._listening is not None, "serve came first"
        self._listening.close()
        for connection in list(self.connections):
            connection.close_idle()


def _healthy(_path: bytes, method: str) -> bytes:
    return health_reply(method=method)


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
