"""What a WSGI app may do with its head, and what is sent when: without a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from tailrace_runtime.framing import FAULT_CHUNK
from tailrace_runtime.journal import Journal
from tailrace_runtime.wsgi import ClientGone, answer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

EVENTS = [("Content-Type", "text/event-stream")]
TEXT = [("Content-Type", "text/plain")]


class Struck(BaseException):
    """What somebody's timer raises in the handler's greenlet."""


class Wire:
    """A client: takes what is sent, unless it is gone or has the sender interrupted."""

    def __init__(self, *, gone_after: int = sys.maxsize, struck_after: int = sys.maxsize) -> None:
        self.sent: list[bytes] = []
        self.is_gone = False
        self._gone_after = gone_after
        self._struck_after = struck_after

    def send(self, data: bytes) -> None:
        if len(self.sent) >= self._gone_after:
            self.is_gone = True
            raise ClientGone
        if len(self.sent) == self._struck_after:
            self.sent.append(data[: len(data) // 2])
            raise Struck
        self.sent.append(data)

    def strike(self) -> type[BaseException]:
        return Struck


class Logged:
    """A journal that keeps what it is given."""

    def __init__(self) -> None:
        self.text = ""
        self.journal = Journal(self._take, "/nowhere")

    def _take(self, _: str, text: str, __: str) -> None:
        self.text += text


@pytest.fixture
def logged() -> Logged:
    return Logged()


def serve(
    app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], wire: Wire, logged: Logged
) -> bool:
    return answer(app, {"REQUEST_METHOD": "GET"}, wire, logged.journal)


def test_a_head_can_be_replaced_until_it_is_out(logged: Logged) -> None:
    """WSGI's start_response with exc_info, in an app that declared an event stream and thought better."""

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", EVENTS)
        try:
            raise ValueError
        except ValueError:
            start("503 Service Unavailable", TEXT, sys.exc_info())
        return iter((b"sorry",))

    wire = Wire()
    is_whole = serve(app, wire, logged)

    assert is_whole
    assert b"".join(wire.sent).startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n")


def test_a_head_that_is_out_cannot_be_replaced(logged: Logged) -> None:
    """WSGI: the exception is raised again; here it ends the reply."""

    def body(start: StartResponse) -> Iterator[bytes]:
        try:
            raise ValueError("the app's own")
        except ValueError:
            start("500 Internal Server Error", TEXT, sys.exc_info())
        yield b"never"

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", EVENTS)
        return body(start)

    wire = Wire()
    is_whole = serve(app, wire, logged)

    assert not is_whole
    assert 2 == len(wire.sent)
    assert FAULT_CHUNK == wire.sent[1]
    assert "ValueError: the app's own" in logged.text


def test_a_whole_body_leaves_with_its_head(logged: Logged) -> None:
    """One piece that exists already is not announced, whatever its type."""

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", EVENTS)
        return [b"data: x\n\n"]

    wire = Wire()
    serve(app, wire, logged)

    assert 1 == len(wire.sent)
    assert b"Content-Length: 9" in wire.sent[0]


def test_more_than_was_declared_is_a_500_while_nothing_is_out(logged: Logged) -> None:
    """A first piece that is too long fails before its head."""

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "1")])
        return iter((b"too long",))

    wire = Wire()
    is_whole = serve(app, wire, logged)

    assert is_whole
    assert b"".join(wire.sent).startswith(b"HTTP/1.1 500 ")


def test_a_generator_whose_client_left_before_it_began_never_runs(logged: Logged) -> None:
    """It is closed, once, and not resumed to be struck."""
    done: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            done.append("run")
            raise StopIteration

        def close(self) -> None:
            done.append("closed")

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", EVENTS)
        return Body()

    wire = Wire(gone_after=0)
    is_whole = serve(app, wire, logged)

    assert not is_whole
    assert ["closed"] == done
    assert "" == logged.text


def test_nothing_is_told_inside_a_piece_that_was_torn(logged: Logged) -> None:
    """A handler's own timer struck while a chunk was being sent: a fault there would be the chunk's data."""

    def app(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", TEXT)
        return iter((b"first", b"second"))

    wire = Wire(struck_after=1)
    is_whole = serve(app, wire, logged)

    assert not is_whole
    assert 2 == len(wire.sent)
    assert FAULT_CHUNK not in b"".join(wire.sent)
