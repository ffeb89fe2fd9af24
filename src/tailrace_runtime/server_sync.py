"""Sync handlers in greenlets: gevent's WSGI server on a unix socket, and a watcher of each client.

gevent must have patched the standard library before this module is imported.
"""

from __future__ import annotations

import io
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import gevent  # type: ignore[import-untyped]  # gevent has no types
from gevent import pywsgi
from gevent.event import Event  # type: ignore[import-untyped]  # as above

from tailrace_runtime.calls import EXIT_RETIRED, GRACE_S, RETIRE_BOUND_S, STUCK, Calls
from tailrace_runtime.framing import health_reply
from tailrace_runtime.head import Head, parse_request_line
from tailrace_runtime.journal import Journal
from tailrace_runtime.loopwatch import BEAT_S, LoopWatch
from tailrace_runtime.report import Reporter
from tailrace_runtime.strike import silence
from tailrace_runtime.wsgi import ClientGone, answer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

# The edge's own limit for a head is 64 KiB; gevent's 8 KiB for a line would refuse what the edge took.
pywsgi.MAX_REQUEST_LINE = 65_536 + 1024
# A handler that never waits lets the other greenlets, and the watcher of its client, run this often.
FAIR_SENDS = 64
_HEALTH_PATHS = ("/_/health", "/_/ready")
_ADVICE = (
    "Greenlets switch where Python waits, not in a computation or in a C library. Set the annotation "
    "com.tailrace.worker: threads, or let the others run with time.sleep(0). It is here:\n"
)
# What reading a body raises: the client left, its chunks are malformed, or it is larger than memory.
_UNREADABLE = (OSError, ValueError, OverflowError, MemoryError)


class Handler(pywsgi.WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """One connection: reads requests as gevent does, answers them as `wsgi.answer` does.

    The greenlet that reads the connection also runs the handler, so killing it ends both. While the
    handler runs nobody reads: a watcher peeks whether the client is still there.
    """

    server: Server
    is_gone = False
    is_busy = False

    def __init__(self, sock: socket.socket, address: object, server: Server) -> None:
        super().__init__(sock, address, server)
        self._greenlet = gevent.getcurrent()
        self._watcher = server.loop.io(sock.fileno(), 1)
        self._timer = server.loop.timer(GRACE_S / 2, GRACE_S / 2)
        self._strikes = 0
        self._sends = 0

    def handle(self) -> None:
        """Serve the connection's requests, one after the other, until it closes."""
        self.server.connections.add(self)
        try:
            super().handle()
        finally:
            self.server.connections.discard(self)
            self._watcher.close()
            self._timer.close()

    def read_request(self, raw_requestline: str) -> bool:
        """Read the head. Raises ValueError: gevent answers 400 and closes the connection."""
        self.is_busy = True
        self.command, self.path, self.request_version = parse_request_line(raw_requestline)
        try:
            self.headers = Head(self.rfile)
        except OSError as error:
            raise ValueError("the client left") from error
        self.content_length = self.headers.body_length()
        self.close_connection = not self.headers.keeps_alive(self.request_version)
        return True

    def handle_one_response(self) -> None:
        """Read the body, whoever answers: what were left of it would be read as the next request."""
        try:
            body = self.wsgi_input.read()
            # More than the request before there is any answer: whoever pipelines is not served.
            self.close_connection |= self._has_more()
            if self.path.partition("?")[0] in _HEALTH_PATHS:
                self.socket.sendall(health_reply(method=self.command))
                self.close_connection |= self.server.calls.is_leaving
                body = None
        except _UNREADABLE:
            self.close_connection = True
            body = None
        if body is not None:
            self.environ["wsgi.input"] = io.BytesIO(body)
            self.environ["CONTENT_LENGTH"] = str(len(body))
            self.environ.pop("HTTP_TRANSFER_ENCODING", None)
            self._serve(self.environ)
        self.is_busy = False

    def _has_more(self) -> bool:
        """Whether more was read than the request, or waits to be."""
        self.socket.settimeout(0.0)
        try:
            return bool(self.rfile.peek(1))
        finally:
            self.socket.settimeout(None)

    def _serve(self, environ: WSGIEnvironment) -> None:
        server, call_id = self.server, environ.get("HTTP_X_CALL_ID", "")
        token = server.journal.begin(call_id)
        server.calls.enter(self)
        self._sends = 0
        self._watcher.start(self._on_readable)
        try:
            is_whole = answer(self.application, environ, self, server.journal)
            self.close_connection |= not is_whole or self.is_gone or server.calls.is_leaving
        finally:
            self._watcher.stop()
            self._timer.stop()
            server.journal.end(call_id, token)
            server.calls.leave(self)

    def _on_readable(self) -> None:
        """In the hub: see whether the client left or, against the contract, sent more."""
        try:
            came = self.socket._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        self._watcher.stop()
        if not came:
            self.is_gone = True
            self.strike()
            self._timer.start(self._on_timer)
        elif not self._sends:
            self.close_connection = True

    def _on_timer(self) -> None:
        """In the hub: the handler survived its kill. Once more, then never mind this process."""
        self._strikes += 1
        self.strike()
        if self._strikes == 2:
            self._timer.stop()
            self.server.retire(self)

    def _headers(self) -> Iterator[tuple[str, str]]:
        for name, value in self.headers.pairs:
            if "_" not in name and name not in ("content-type", "content-length"):
                yield "HTTP_" + name.upper().replace("-", "_"), value

    # From here on: `wsgi.Line`.

    def send(self, data: bytes) -> None:
        self._sends += 1
        try:
            self.socket.sendall(data)
            if not self._sends % FAIR_SENDS:
                gevent.sleep(0)
        except (OSError, gevent.GreenletExit):
            self.is_gone = True
            raise ClientGone from None

    def strike(self) -> type[BaseException]:
        self._greenlet.kill(block=False)
        return gevent.GreenletExit  # type: ignore[no-any-return]  # gevent has no types


class Server(pywsgi.WSGIServer):  # type: ignore[misc]  # gevent has no types
    """All connections of a replica, and how it leaves. Owns the listener."""

    handler_class = Handler

    def __init__(
        self, listener: socket.socket, app: WSGIApplication, journal: Journal, reporter: Reporter
    ) -> None:
        super().__init__(listener, app, log=None, environ={"REMOTE_ADDR": "127.0.0.1"})
        self.journal = journal
        self.calls = Calls()
        self.connections: set[Handler] = set()
        self._reporter = reporter
        self._left = Event()

    def wait_left(self) -> None:
        """Wait until a drain is over."""
        self._left.wait()

    def drain(self) -> None:
        """Stop accepting; leave when the running calls are over."""
        self._stop_taking()
        self.calls.when_clear(self._left.set)

    def retire(self, stuck: Handler) -> None:
        """Leave because a call cannot be stopped: the others may finish, within RETIRE_BOUND_S."""
        self.calls.give_up(stuck)
        if not self.calls.is_leaving:
            self._stop_taking()
            self._reporter.retiring(STUCK)
            gevent.spawn_later(RETIRE_BOUND_S, os._exit, EXIT_RETIRED)
            self.calls.when_clear(lambda: os._exit(EXIT_RETIRED))

    def _stop_taking(self) -> None:
        self.close()
        for connection in self.connections:
            if not connection.is_busy:
                connection.strike()


def serve_sync(
    listener: socket.socket,
    app: WSGIApplication,
    journal: Journal,
    reporter: Reporter,
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM was received and the last call is over.

    Args:
        on_ready: Called once connections are accepted.
    """
    silence(gevent.GreenletExit)
    server = Server(listener, app, journal, reporter)
    server.start()
    gevent.signal_handler(signal.SIGTERM, server.drain)
    watch = LoopWatch(
        journal, entries=frozenset((Handler._serve.__code__,)), call_now=lambda: "", advice=_ADVICE
    )
    timer = server.loop.timer(BEAT_S, BEAT_S, ref=False)
    watch.start(lambda _, beat: None if timer.active else timer.start(beat))  # it repeats by itself
    try:
        on_ready()
        server.wait_left()
    finally:
        watch.stop()
        timer.close()
