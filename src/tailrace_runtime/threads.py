"""Sync handlers in real threads, for libraries that gevent cannot patch; asyncio does the reading.

A thread cannot be killed. When the client leaves, an exception is set on it, again each time the
exchange cancels the call; it strikes when the thread next runs Python code, so a read that blocks ends
with the next bytes from its model. A read that never ends is the last resort's: the process goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import select
import threading
from typing import TYPE_CHECKING

from tailrace_runtime.call import Call
from tailrace_runtime.event import environ_of
from tailrace_runtime.exchange import AsyncApp, Exchange
from tailrace_runtime.journal import Journal
from tailrace_runtime.strike import silence
from tailrace_runtime.wsgi import ClientGone, answer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

# More concurrent calls wait for a thread; the bound keeps their stacks within what a machine has.
MAX_THREADS = 1000


class CallStopped(SystemExit):
    """Raised inside a handler's thread whose client left. A SystemExit: ``except Exception`` lets it pass."""


class _Work:
    """One call on its thread; the `wsgi.Line` of it. Owns no descriptor."""

    def __init__(
        self, app: WSGIApplication, call: Call, exchange: Exchange, fd: int, journal: Journal
    ) -> None:
        self._app = app
        self._call = call
        self._exchange = exchange
        self._fd = fd
        self._is_cut = False
        self._is_done = False
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"call-{call.id}", daemon=True)
        self.over: asyncio.Future[bool] = self._loop.create_future()
        self._thread.start()

    @property
    def is_gone(self) -> bool:
        return self._is_cut or self._exchange.is_gone

    def send(self, data: bytes) -> None:
        left = memoryview(data)
        self._exchange.is_answering = True  # before the write: the loop may see the next request at once
        while left:
            if self.is_gone:
                raise ClientGone
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)  # ms; a client that left ends the wait at once
            except OSError:
                self._is_cut = True  # seen here before the exchange saw it
                raise ClientGone from None

    def strike(self) -> type[BaseException]:
        return CallStopped  # the exchange sees the client leave too, and interrupts from its own thread

    def interrupt(self) -> bool:
        """Set CallStopped on the thread; False when it is done."""
        ident = self._thread.ident
        if self._is_done or ident is None or not self._thread.is_alive():
            return False
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(CallStopped))
        return True

    def _run(self) -> None:
        # It may strike when the handler is done already; threading prints all but SystemExit itself. Where
        # it kept `_serve` from telling the loop, the next cancel finds the thread ended.
        with contextlib.suppress(CallStopped):
            self._serve()

    def _serve(self) -> None:
        is_whole = False
        try:
            self._journal.begin(self._call.id)
            is_whole = answer(self._app, environ_of(self._call), self, self._journal)
        finally:
            if self.is_gone:
                gc.collect()  # an SDK's stream is a cycle: until collected, its connection stays open
            self._is_done = True
            self._loop.call_soon_threadsafe(self._end, is_whole)

    def _end(self, is_whole: bool) -> None:  # a call-back of the loop
        if not self.over.done():
            self.over.set_result(is_whole)


def thread_app(app: WSGIApplication, journal: Journal) -> AsyncApp:
    """Serve a WSGI app's calls in a thread each, MAX_THREADS at a time."""
    silence(CallStopped)
    free = asyncio.Semaphore(MAX_THREADS)

    async def serve(call: Call, exchange: Exchange) -> None:
        async with free:
            fd = exchange.lend()
            try:
                exchange.settle(is_whole=await _wait_over(_Work(app, call, exchange, fd, journal)))
            finally:
                os.close(fd)

    return serve


async def _wait_over(work: _Work) -> bool:
    """Wait until the thread is done, passing each cancel on to it."""
    while True:
        try:
            return await asyncio.shield(work.over)
        except asyncio.CancelledError:
            if not work.interrupt():
                return False
