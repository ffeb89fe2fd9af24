"""Run a WSGI app for one call and write its reply at once, chunk by chunk.

How a call ends, and what is done then::

    normal end        client gone, in next()    client gone, in send()      handler fails
    ----------        ----------------------    ----------------------      -------------
    last chunk        greenlet killed (thread   generator resumed, and      before the head: 500
    keep alive        interrupted) in its       struck in its next read     later: a chunk that tells
                      read; closed              (see strike.py); closed     it, connection closed
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from tailrace_runtime.framing import Framing, fault_reply, response_head
from tailrace_runtime.journal import Journal
from tailrace_runtime.strike import end_at_next_read

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


# asyncio keeps its running loop per thread, and all greenlets share one.
TWO_LOOPS = (
    "tailrace: two calls ran asyncio.run() at once, which greenlets cannot. Write `async def handle`, "
    "or set the annotation com.tailrace.worker: threads\n"
)


class ClientGone(Exception):
    """The client cannot be written to any more."""


class Line(Protocol):
    """The way back to the client, and the way to stop whoever serves it."""

    @property
    def is_gone(self) -> bool:
        """Whether the client left."""

    def send(self, data: bytes) -> None:
        """Write all of data now; wait while the client is slow.

        Raises:
            ClientGone: it left, or leaves while waiting.
        """

    def strike(self) -> type[BaseException]:
        """Have the current greenlet or thread interrupted when it next waits, if that can be done.

        Returns what interrupts it.
        """


class Reply:
    """One response: its head when the first data exists, or ahead of it; then data as it comes.

    ``is_begun`` tells that the head went out, ``has_data`` that the app gave something of the body.
    """

    def __init__(self, method: str, line: Line) -> None:
        self._method = method
        self._line = line
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._framing: Framing | None = None
        self._is_torn = False
        self.is_begun = False
        self.has_data = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """WSGI's ``start_response``.

        Raises:
            ValueError: the head is not legal; told now, while the app still runs.
        """
        if exc_info and exc_info[1] is not None and self.is_begun:
            raise exc_info[1].with_traceback(exc_info[2])
        response_head(status, headers, method=self._method, length=None)
        self._head = (status, headers)
        return self.write

    def announce(self) -> None:
        """Send the head now where it declares an event stream whose first event is yet to come.

        Raises ClientGone.
        """
        if self._head is None or self._framing is not None:
            return
        head, framing = response_head(*self._head, method=self._method, length=None)
        if framing.is_ahead:
            self._framing = framing
            self._send(head)

    def write(self, data: bytes) -> None:
        """Send data, with the head in front when it is the first. Raises ClientGone, ValueError."""
        self.has_data = True
        if self._framing is not None:
            framed = self._framing.frame(data)
        else:
            framed = self._begin(None) + self._framing_of().frame(data)
        if framed:
            self._send(framed)

    def write_whole(self, body: bytes) -> None:
        """Send head, length and body in one piece. Raises ClientGone, ValueError."""
        head = self._begin(len(body))
        framing = self._framing_of()
        self._send(head + framing.frame(body) + framing.finish())

    def finish(self) -> None:
        """Send what ends the body. Raises ClientGone, ValueError."""
        head = b"" if self._framing is not None else self._begin(None)
        end = head + self._framing_of().finish()
        if end:
            self._send(end)

    def fail(self) -> bool:
        """Tell that the handler failed, by a 500 while nothing was sent; whether that was possible.

        Raises ClientGone.
        """
        if not self.is_begun:
            self._send(fault_reply(method=self._method))
            return True
        fault = b"" if self._is_torn else self._framing_of().fail()
        if fault:
            self._send(fault)
        return False

    def _send(self, data: bytes) -> None:
        self.is_begun = True
        # A handler can have itself struck here, in the middle of data: gevent.Timeout.
        self._is_torn = True
        self._line.send(data)
        self._is_torn = False

    def _begin(self, length: int | None) -> bytes:
        if self._head is None:
            raise RuntimeError("the app gave data before it called start_response")
        head, self._framing = response_head(*self._head, method=self._method, length=length)
        return head

    def _framing_of(self) -> Framing:
        assert self._framing is not None, "the head was begun"
        return self._framing


def answer(app: WSGIApplication, environ: WSGIEnvironment, line: Line, journal: Journal) -> bool:
    """Serve one call; whether the connection can carry another.

    Raises nothing: what the handler raised is in the journal, what the client did is in the result.
    """
    reply = Reply(environ["REQUEST_METHOD"], line)
    result: Iterable[bytes] = ()
    try:
        result = app(environ, reply.start)
        _relay(result, reply)
        return True
    except ClientGone:
        if reply.has_data:
            _abandon(result, line)
        else:
            _close(result, line, journal)
            result = ()  # never begun, and never to be
        gc.collect()  # an SDK's stream is a cycle: until collected, its connection stays open
        return False
    except BaseException as error:
        return _answer_failure(error, reply, line, journal)
    finally:
        _close(result, line, journal)


def _relay(result: Iterable[bytes], reply: Reply) -> None:
    if isinstance(result, (list, tuple)) and len(result) == 1:
        reply.write_whole(result[0])
        return
    reply.announce()
    for data in result:
        if data:
            reply.write(data)
    reply.finish()


def _answer_failure(error: BaseException, reply: Reply, line: Line, journal: Journal) -> bool:
    if line.is_gone:
        if isinstance(error, Exception) and not isinstance(error, OSError):
            journal.failure(error)
        return False
    journal.failure(error)
    if isinstance(error, RuntimeError) and "from a running event loop" in str(error):
        journal.stderr.write(TWO_LOOPS)
    try:
        return reply.fail()
    except ClientGone:
        return False


def _abandon(result: Iterable[bytes], line: Line) -> None:
    """End a generator that sits at its yield."""
    if isinstance(result, Iterator):
        end_at_next_read(result, line.strike())


def _close(result: Iterable[bytes], line: Line, journal: Journal) -> None:
    close = getattr(result, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException as error:
        if isinstance(error, Exception) or not line.is_gone:
            journal.failure(error)
