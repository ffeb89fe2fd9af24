"""``tailrace watchdog``: the watchdog by itself, on a port, as an image's entry point.

Source: contract section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import uvloop

from tailrace_runtime.call import Call
from tailrace_runtime.exchange import Exchange
from tailrace_runtime.framing import response_head, status_line
from tailrace_runtime.journal import Journal
from tailrace_runtime.report import Reporter
from tailrace_runtime.server_async import Server
from tailrace_runtime.watchdog.apps import HttpApp, Limited, build_app
from tailrace_runtime.watchdog.child import LOOPBACK, Child, NotListening
from tailrace_runtime.watchdog.config import Config, read_config
from tailrace_runtime.watchdog.numbers import Numbers, serve_numbers

EXIT_NOT_STARTED = 1


def main() -> None:
    """Run a function until SIGTERM. Exits 1 when its variables or its process are not what is expected."""
    if sys.argv[1:] in (["--run-healthcheck"], ["-run-healthcheck"]):
        raise SystemExit(0 if _lock_path().exists() else "unhealthy: the lock file is not there")
    if len(sys.argv) > 1:
        raise SystemExit("tailrace-watchdog takes its settings from the environment; --run-healthcheck looks")
    raise SystemExit(run_watchdog())


def run_watchdog() -> int:
    """The watchdog on its port; the exit code. Speaks on stderr, hands on what the function writes."""
    try:
        config = read_config(os.environ)
    except ValueError as wrong:
        print(f"tailrace watchdog: {wrong}", file=sys.stderr)
        return EXIT_NOT_STARTED
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Watchdog(config).run())


class _Printer(Reporter):
    """What a replica reports, as lines on this process's own streams."""

    def __init__(self, *, has_prefix: bool) -> None:
        self._has_prefix = has_prefix

    def log(self, stream: str, text: str, call: str) -> None:  # noqa: ARG002  # a line of many calls
        prefix = f"{datetime.now():%Y/%m/%d %H:%M:%S} {stream}: " if self._has_prefix else ""
        out = sys.__stderr__ if stream == "stderr" else sys.__stdout__
        if out is not None:
            out.write(f"{prefix}{text}" if text.endswith("\n") else f"{prefix}{text}\n")
            out.flush()

    def retiring(self, reason: str) -> None:
        self.log("stderr", reason, "")


class _Watchdog:
    """One function's server, its process, and what is told of both."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._printer = _Printer(has_prefix=config.prefix_logs)
        self._numbers = Numbers()
        self._is_accepting = True
        self._code = 0

    def _log(self, stream: str, text: str) -> None:
        for line in text.splitlines(keepends=True):
            self._printer.log(stream, line, "")

    async def run(self) -> int:
        config = self._config
        child = Child(
            config.fprocess,
            config.upstream_port,
            self._log,
            is_private=False,
            line_limit=config.log_buffer_size,
        )
        app = build_app(config, child, self._log)
        self._limited = Limited(app, config, self._log)
        try:
            listener = _listen(config.host, config.port)
        except OSError as failed:
            return self._refuse(f"cannot listen on {config.host}:{config.port}: {failed.strerror}")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listener.close)
            journal = Journal(self._printer.log, str(Path.cwd()))
            server = self._server = Server(self._serve, journal, self._printer)
            server.probe = self._probe
            if isinstance(app, HttpApp):
                try:
                    await child.start(os.environ)
                except (NotListening, OSError) as failed:
                    return self._refuse(str(failed))
                await stack.enter_async_context(self._watched(child, server))
            await stack.enter_async_context(serve_numbers(self._numbers, LOOPBACK, config.metrics_port))
            with self._locked():
                self._log(
                    "stderr", f"listening on {config.host}:{listener.getsockname()[1]}, mode {config.mode}\n"
                )
                await server.serve(listener, self._take_signals)
        return self._code

    def _refuse(self, why: str) -> int:
        self._log("stderr", f"tailrace watchdog: {why}\n")
        return EXIT_NOT_STARTED

    # Calls.

    async def _serve(self, call: Call, exchange: Exchange) -> None:
        began = time.monotonic()
        self._numbers.in_flight += 1
        if call.path == b"/_/ready":  # its own path says
            call = replace(call, path=self._config.ready_path.encode())
        try:
            await self._limited(call, exchange)
        finally:
            self._numbers.in_flight -= 1
            took_s = time.monotonic() - began
            code = exchange.status or 500
            self._numbers.observe(str(code), call.method, took_s)
            call_id = f" [{call.id}]" if self._config.log_call_id and call.id else ""
            path = call.path.decode("latin-1")
            self._log("stderr", f"{call.method} {path} - {status_line(code)} ({took_s:.4f}s){call_id}\n")

    def _probe(self, path: bytes, method: str) -> bytes | None:
        """The answer of ``/_/health`` and ``/_/ready``; None: the function's own path says."""
        if method not in ("GET", "HEAD"):
            return _words(405, "", method)
        if not self._is_accepting:
            return _words(503, "not accepting calls\n", method)
        if path == b"/_/health":
            return _words(200, "OK", method)
        if self._limited.is_full:
            return _words(429, "as many calls run as may\n", method)
        return None if self._config.ready_path else _words(200, "", method)

    # The end.

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_drain)

    def _begin_drain(self) -> None:
        """Not ready any more; after the interval in which that is seen, accept no more."""
        if self._is_accepting:
            self._is_accepting = False
            _lock_path().unlink(missing_ok=True)
            loop = asyncio.get_running_loop()
            loop.call_later(self._config.healthcheck_s, self._server.drain)
            loop.call_later(self._config.healthcheck_s + self._config.write_s, self._server.leave)
        else:
            self._server.leave()

    @contextlib.asynccontextmanager
    async def _watched(self, child: Child, server: Server) -> AsyncIterator[None]:
        async def watch() -> None:
            code = await child.wait_exit()
            self._log("stderr", f"the function's process ended with exit code {code}\n")
            self._code = EXIT_NOT_STARTED
            server.leave()

        watching = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            watching.cancel()
            await child.stop()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = _lock_path()
        if not self._config.suppress_lock:
            path.write_bytes(b"")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock_path() -> Path:
    return Path(tempfile.gettempdir(), ".lock")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    listener.setblocking(False)
    return listener


def _words(status: int, words: str, method: str) -> bytes:
    body = words.encode()
    head, framing = response_head(
        status_line(status), [("Content-Type", "text/plain")], method=method, length=len(body)
    )
    return head + framing.frame(body)
