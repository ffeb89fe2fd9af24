"""Run a WSGI app for one call and write its reply at once, chunk by chunk.

How a call ends, and what is done then::

    normal end        client gone, in next()    client gone, in send()      handler fails
    ----------        ----------------------    ----------------------      -------------
    last chunk        greenlet killed (thread   generator resumed, and      before the head: 500
    keep alive        interrupted) in its       struck in its next read     later: connection cut,
                      read; closed              (see strike.py); closed     no last chunk
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
    """One response: its head when the first data exists, then data as it comes."""

    def __init__(self, method: str, line: Line) -> None:
        self._method = method
        self._line = line
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._framing: Framing | None = None

    @property
    def is_begun(self) -> bool:
        """Whether the head went out."""
        return self._framing is not None

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """WSGI's ``start_response``.

        Raises:
            ValueError: the head is not legal; told now, while the app still runs.
        """
        if exc_info and exc_info[1] is not None and self.is_begun:
            raise exc_info[1]
        response_head(status, headers, method=self._method, length=None)
        self._head = (status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Send data, with the head in front when it is the first. Raises ClientGone, ValueError."""
        if self._framing is not None:
            framed = self._framing.frame(data)
        else:
            framed = self._begin(None) + self._framing_of().frame(data)
        if framed:
            self._line.send(framed)

    def write_whole(self, body: bytes) -> None:
        """Send head, length and body in one piece. Raises ClientGone, ValueError."""
        head = self._begin(len(body))
        framing = self._framing_of()
        self._line.send(head + framing.frame(body) + framing.finish())

    def finish(self) -> None:
        """Send what ends the body. Raises ClientGone, ValueError."""
        head = b"" if self._framing is not None else self._begin(None)
        end = head + self._framing_of().finish()
        if end:
            self._line.send(end)

    def fail(self) -> bool:
        """Answer 500 when nothing was sent yet; whether that was possible."""
        if self._framing is not None:
            return False
        self._line.send(fault_reply(method=self._method))
        return True

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
        _abandon(result, line)
        return False
    except BaseException as error:
        return _answer_failure(error, reply, line, journal)
    finally:
        _close(result, line, journal)


def _relay(result: Iterable[bytes], reply: Reply) -> None:
    if isinstance(result, (list, tuple)) and len(result) == 1:
        reply.write_whole(result[0])
        return
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
    gc.collect()  # an SDK's stream is a cycle: until collected, its connection stays open


def _close(result: Iterable[bytes], line: Line, journal: Journal) -> None:
    close = getattr(result, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException as error:
        if isinstance(error, Exception) or not line.is_gone:
            journal.failure(error)
