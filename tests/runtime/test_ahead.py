"""The head of an event stream goes ahead of its first event, and a failure after a head is told as one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from tests.kit.replica import LIMIT_S, Replica, Talk, loaded_replica

pytestmark = pytest.mark.slow

FAULT = b"1;tailrace-fault\r\n"
SYNC = """
import socket, threading
from flask import Response, request
opened = threading.Event()

def handle(req):
    path, kind = request.path, request.args.get("kind", "text/event-stream")
    if path == "/open":
        opened.set()
        return "ok"
    headers = {"Content-Type": kind}
    if "length" in request.args:
        headers["Content-Length"] = request.args["length"]
    return Response(globals()[path.strip("/")](req), headers=headers)

def gated(req):
    opened.wait()
    yield "data: first\\n\\n"

def fails(req):
    raise ValueError("secret reason")
    yield

def breaks(req):
    yield "data: first\\n\\n"
    raise ValueError("secret reason")

def waits(req):
    try:
        with socket.create_connection(("127.0.0.1", int(req))) as model:
            model.sendall(b"asked")
            model.recv(1)
        yield "data: first\\n\\n"
    finally:
        print("cleaned up", flush=True)
"""
ASYNC = (
    SYNC.replace("def ", "async def ")
    .replace("threading.Event", "asyncio.Event")
    .replace("opened.wait", "await opened.wait")
    .replace("import socket, threading", "import asyncio")
    .replace(
        """        with socket.create_connection(("127.0.0.1", int(req))) as model:
            model.sendall(b"asked")
            model.recv(1)
""",
        """        model, writer = await asyncio.open_connection("127.0.0.1", int(req))
        try:
            writer.write(b"asked")
            await model.read(1)
        finally:
            writer.close()
""",
    )
)


MANNERS = ["greenlets", "threads", "async"]


def boot(manner: str) -> AbstractContextManager[Replica]:
    worker = "threads" if manner == "threads" else "greenlets"
    return loaded_replica(ASYNC if manner == "async" else SYNC, kind="flask", worker=worker)


@pytest.fixture(scope="module", params=MANNERS)
def replica(request: pytest.FixtureRequest) -> Iterator[Replica]:
    with boot(request.param) as loaded:
        yield loaded


@pytest.fixture
def model() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        yield listener


def raw_answer(replica: Replica, target: str, method: str = "GET") -> bytes:
    """All bytes of an answer, up to the close of the connection."""
    with replica.talk() as talk:
        talk.send(method, target, headers={"Connection": "close"})
        return read_rest(talk)


def read_rest(talk: Talk) -> bytes:
    got = b""
    while data := talk.socket.recv(65536):
        got += data
    return got


def is_closed(line: socket.socket) -> bool:
    """Whether the other end closes next, with or without our last byte read."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def begin(replica: Replica, talk: Talk, model: socket.socket) -> socket.socket:
    """Have the handler block in a read of its model, with only its head out; its line to the model."""
    talk.send("POST", "/waits", str(model.getsockname()[1]).encode())
    assert b"text/event-stream" == dict(talk.read_head().headers)[b"content-type"]
    line, _ = model.accept()
    line.settimeout(LIMIT_S)
    assert b"asked" == line.recv(5)
    return line


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream ; charset=utf-8"])
def test_the_head_of_an_event_stream_comes_before_its_first_event(manner: str, kind: str) -> None:
    """While the generator waits for whatever it waits for, the client has status and headers."""
    with boot(manner) as replica, replica.talk() as talk:
        talk.send("GET", f"/gated?kind={kind.replace(' ', '%20')}")

        head = talk.read_head()

        assert (200, kind.encode()) == (head.status_code, dict(head.headers)[b"content-type"])
        assert "ok" == replica.ask("GET", "/open").text
        assert b"data: first\n\n" == talk.read_data()
        assert talk.read_data() is None
        talk.send("GET", "/open")
        assert "ok" == talk.read_answer().text


@pytest.mark.parametrize("query", ["kind=text/plain", "kind=application/x-ndjson", "length=3"])
def test_any_other_head_waits_for_the_first_byte(replica: Replica, query: str) -> None:
    """Nothing else is declared ahead, nor a sized body: a failure before its first byte is a real 500."""
    answer = replica.ask("GET", f"/fails?{query}")

    assert (500, "function", True) == (answer.status, answer.headers["x-tailrace-fault"], answer.is_whole)


def test_a_head_without_body_is_whole(replica: Replica) -> None:
    """HEAD runs no generator and leaves the connection as it was."""
    with replica.talk() as talk:
        talk.send("HEAD", "/fails")
        answer = talk.read_answer()
        assert (200, b"", True) == (answer.status, answer.body, answer.is_whole)
        talk.send("GET", "/open")
        assert "ok" == talk.read_answer().text


def test_a_failure_after_the_head_is_told(replica: Replica) -> None:
    """A chunk announced and never sent, and the end of the connection: truncated to every client."""
    got = raw_answer(replica, "/fails")

    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == FAULT
    replica.wait_log("ValueError: secret reason")


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_a_failure_after_the_first_byte_is_told(replica: Replica, kind: str) -> None:
    """Whatever the content type, where the body is chunked."""
    got = raw_answer(replica, f"/breaks?kind={kind}")

    assert got.endswith(b"\r\n\r\nd\r\ndata: first\n\n\r\n" + FAULT)


def test_a_failure_in_a_sized_body_is_only_a_cut(replica: Replica) -> None:
    """There is no place for more than the bytes that were declared."""
    got = raw_answer(replica, "/breaks?length=20")

    assert got.endswith(b"\r\n\r\ndata: first\n\n")


@pytest.mark.parametrize("manner", MANNERS)
def test_a_client_that_leaves_after_the_head_stops_the_read(manner: str, model: socket.socket) -> None:
    """The handler blocks before its first event: the model's line closes, and its cleanup runs."""
    with boot(manner) as replica, replica.talk() as talk, begin(replica, talk, model) as line:
        left_at = time.monotonic()

        talk.close()

        if manner == "threads":
            replica.ask("GET", "/_/health")  # answered after the client was seen to leave
            line.sendall(b"x")  # a thread is stopped with its next bytes
        assert is_closed(line)
        assert time.monotonic() - left_at < 0.5
        replica.wait_log("cleaned up")
        assert "cleaned up\n" == replica.logs()


@pytest.mark.parametrize("manner", MANNERS)
def test_a_call_whose_client_left_is_told_nothing(manner: str, model: socket.socket) -> None:
    """Who half-closed could still read: no fault is written for a call that was stopped."""
    with boot(manner) as replica, replica.talk() as talk, begin(replica, talk, model) as line:
        talk.socket.shutdown(socket.SHUT_WR)

        if manner == "threads":
            replica.ask("GET", "/_/health")
            line.sendall(b"x")
        assert b"" == read_rest(talk)
        replica.wait_log("cleaned up")
