"""A replica's first steps, in the order that matters.

    config from stdin -> lifeline -> reports -> async or sync? -> gevent patches (sync) -> import -> serve

Nothing that gevent must patch is imported before it is known whether gevent serves at all.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, cast

from tailrace_runtime import native
from tailrace_runtime.boot import Boot, parse_boot, read_line
from tailrace_runtime.journal import Journal
from tailrace_runtime.report import Reporter
from tailrace_runtime.scan import scan_manner

if TYPE_CHECKING:
    import socket
    from wsgiref.types import WSGIApplication

    from tailrace_runtime.asgi import App
    from tailrace_runtime.exchange import AsyncApp
    from tailrace_runtime.lifespan import Lifespan
    from tailrace_runtime.load import Loaded, LoadFailed

# How long exit handlers and a handler's own threads may hold up the end of a drained replica.
EXIT_BOUND_S = 1.0
EXIT_NOT_LOADED = 1
EXIT_NOT_BOOTED = 2
# First argument of the second start, after the import showed that the handler is async after all.
_AGAIN = "--async"


def main() -> None:
    """Run one replica until it is told to stop. Exits 0 after a drain, 1 when the handler cannot load."""
    try:
        boot, is_async = _take_boot()
    except ValueError as error:
        print(f"tailrace runtime: {error}", file=sys.stderr)
        raise SystemExit(EXIT_NOT_BOOTED) from None
    lifeline = _hold_lifeline()
    os.set_inheritable(boot.report_fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    reporter = Reporter(boot.report_fd)
    journal = Journal(reporter.log, boot.root)
    journal.install()
    replica = _Replica(boot, journal, reporter, lifeline)
    replica.run("async" if is_async else _scan(boot))
    _leave()


class _Replica:
    """Loads the handler and serves it in the way it needs."""

    def __init__(self, boot: Boot, journal: Journal, reporter: Reporter, lifeline: int) -> None:
        self._boot = boot
        self._journal = journal
        self._reporter = reporter
        self._lifeline = lifeline
        self._folder = os.path.join(boot.root, "function")  # noqa: PTH118  # pathlib is not needed yet

    def run(self, manner: str) -> None:
        """Serve until told to stop. Exits 1, with a report, when that cannot begin."""
        try:
            if self._boot.kind == "watchdog":
                self._run_watchdog()
            elif manner == "async" or self._boot.worker == "threads" or self._boot.kind == "asgi":
                self._run_on_asyncio()
            else:
                self._run_on_gevent()
        except Exception as error:
            from tailrace_runtime.load import LoadFailed

            self._fail(LoadFailed(f"the runtime failed: {error}", trace=self._journal.describe(error)))

    def _run_on_gevent(self) -> None:
        from gevent import monkey  # type: ignore[import-untyped]  # gevent has no types

        monkey.patch_all()
        loaded = self._load()
        if loaded.manner != "sync":
            _start_again(self._boot, self._lifeline)
        from tailrace_runtime.server_sync import serve_sync

        serve_sync(
            _listen(self._boot.socket),
            self._wsgi_app(loaded),
            self._journal,
            self._reporter,
            lambda: self._reporter.loaded(loaded.import_s),
        )

    def _run_on_asyncio(self) -> None:
        loaded = self._load()
        from tailrace_runtime.load import LoadFailed
        from tailrace_runtime.server_async import serve_async

        try:
            app, lifespan = (
                self._asgi_app(loaded) if loaded.manner == "asgi" else (self._async_app(loaded), None)
            )
            serve_async(
                _listen(self._boot.socket),
                app,
                self._journal,
                self._reporter,
                lambda: self._reporter.loaded(loaded.import_s),
                lifespan=lifespan,
            )
        except LoadFailed as failure:
            self._fail(failure)

    def _run_watchdog(self) -> None:
        from tailrace_runtime.load import LoadFailed
        from tailrace_runtime.watchdog.replica import serve_process

        try:
            serve_process(_listen(self._boot.socket), self._boot, self._journal, self._reporter)
        except LoadFailed as failure:
            self._fail(failure)

    def _load(self) -> Loaded:
        """Import what serves the kind, then the handler; report and exit when that fails."""
        from tailrace_runtime.load import LoadFailed, load_handler
        from tailrace_runtime.secret_files import SecretFiles

        SecretFiles(self._boot.secrets).install()
        try:
            if self._boot.kind == "asgi":
                import tailrace_runtime.asgi
            elif self._boot.kind == "stream":
                import tailrace_runtime.stream_app
            else:
                import tailrace_runtime.flask_app  # noqa: F401  # not a part of the handler's import time
            return load_handler(self._boot.root, self._boot.kind)
        except LoadFailed as failure:
            self._fail(failure)
        except ImportError as error:
            self._fail(LoadFailed(f"the function's environment lacks what Tailrace needs: {error}"))

    def _fail(self, failure: LoadFailed) -> NoReturn:
        self._journal.stderr.write(failure.trace or f"{failure.error}\n")
        self._reporter.failed(failure.error, failure.trace, failure.hint)
        raise SystemExit(EXIT_NOT_LOADED)

    def _wsgi_app(self, loaded: Loaded) -> WSGIApplication:
        kind, function = self._boot.kind, self._boot.function
        if kind == "stream":
            from tailrace_runtime.stream_app import stream_app

            return stream_app(loaded.handle, function=function)
        from tailrace_runtime.flask_app import flask_app

        return flask_app(loaded.handle, kind=kind, function=function, folder=self._folder)

    def _asgi_app(self, loaded: Loaded) -> tuple[AsyncApp, Lifespan]:
        from tailrace_runtime.asgi import asgi_app, read_message_limit
        from tailrace_runtime.lifespan import Lifespan

        app = cast("App", loaded.handle)
        limit = read_message_limit(os.environ)
        lifespan = Lifespan(app, self._journal)
        return asgi_app(app, self._journal, lifespan.state, message_limit=limit), lifespan

    def _async_app(self, loaded: Loaded) -> AsyncApp:
        kind, function = self._boot.kind, self._boot.function
        if loaded.manner == "sync":
            from tailrace_runtime.threads import thread_app

            return thread_app(self._wsgi_app(loaded), self._journal)
        if kind == "stream":
            from tailrace_runtime.stream_app import stream_async

            return stream_async(loaded.handle, function=function)
        from tailrace_runtime.flask_app import flask_async

        return flask_async(loaded.handle, kind=kind, function=function, folder=self._folder)


def _take_boot() -> tuple[Boot, bool]:
    """The config, and whether an earlier start already learned that the handler is async."""
    if sys.argv[1:2] == [_AGAIN] and len(sys.argv) == 3:
        line = sys.argv[2].encode()
        del sys.argv[1:]
        return parse_boot(line), True
    return parse_boot(read_line(0)), False


def _hold_lifeline() -> int:
    """Watch stdin's pipe from a native thread, and put /dev/null in its place.

    When its other end closes, everything in this process's group is killed: children and grandchildren
    die with the gateway, however it died.
    """
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    native.start_thread(_watch_lifeline, (lifeline,))
    return lifeline


def _watch_lifeline(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(128 + signal.SIGKILL)  # started by hand, in the group of somebody else's shell


def _start_again(boot: Boot, lifeline: int) -> NoReturn:
    """Begin anew in this process without gevent: patches cannot be taken back."""
    os.dup2(lifeline, 0)
    os.set_inheritable(boot.report_fd, True)
    os.execv(sys.executable, [sys.executable, sys.argv[0], _AGAIN, boot.line])  # noqa: S606  # ourselves


def _scan(boot: Boot) -> str:
    try:
        with open(os.path.join(boot.root, "function", "handler.py"), encoding="utf-8") as source:  # noqa: PTH118, PTH123  # pathlib is not needed yet
            return scan_manner(source.read())
    except (OSError, UnicodeDecodeError):
        return "unknown"  # the import says what is wrong, or knows the source's encoding


def _raise_file_limit() -> None:
    """Lift the soft limit of open files: a stream needs two, and 1024 is a common default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65_536
    with contextlib.suppress(ValueError, OSError):  # macOS caps it below what it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(path: str) -> socket.socket:
    """A listening unix socket at path that only this user can connect to."""
    import socket

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  # pathlib would be one more import
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def _leave() -> NoReturn:
    """Exit 0, within EXIT_BOUND_S whatever the function's exit handlers and threads do."""
    native.start_thread(_exit_soon, ())
    sys.exit(0)


def _exit_soon() -> None:
    native.sleep(EXIT_BOUND_S)
    os._exit(0)
