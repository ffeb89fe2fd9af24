"""The connection between the edge and a replica: one request, one answer, and never a body as a request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.kit.replica import LIMIT_S, Replica, loaded_replica

pytestmark = pytest.mark.slow

SOURCE = """
import json

DEF handle(event, context):
    return {"body": {"path": event.path, "body": event.body.decode(), "own": event.headers.get("X-Own")}}
"""
FORGED = b"GET /forged HTTP/1.1\r\nHost: fn\r\nX-Call-Id: forged\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module", params=["greenlets", "threads", "async"])
def replica(request: pytest.FixtureRequest) -> Iterator[Replica]:
    source = SOURCE.replace("DEF", "async def" if request.param == "async" else "def")
    worker = "threads" if request.param == "threads" else "greenlets"
    with loaded_replica(source, kind="http", worker=worker) as loaded:
        yield loaded


def request(line: bytes, body: bytes = b"", *, chunked: bool = False, more: bytes = b"") -> bytes:
    """A request with a sized or a chunked body."""
    if chunked:
        framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framing = b"Content-Length: %d" % len(body)
    return b"%b HTTP/1.1\r\nHost: fn\r\n%b%b\r\n\r\n%b" % (line, more, framing, body)


def read_to_end(line: socket.socket) -> bytes:
    """All that comes until the replica closes the connection; fails when it never does."""
    got = b""
    try:
        while data := line.recv(65536):
            got += data
    except ConnectionResetError:  # closed with bytes of ours unread
        pass
    return got


def connect(replica: Replica) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(LIMIT_S)
    line.connect(replica.path)
    return line


def send(replica: Replica, *pieces: bytes) -> bytes:
    """All that is answered to these pieces until the connection is closed."""
    with connect(replica) as line:
        for piece in pieces:
            line.sendall(piece)
        return read_to_end(line)


@pytest.mark.parametrize("path", [b"/_/health", b"/_/ready", b"/_/health?x=1"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_sent_to_the_health_check_is_never_a_request(
    replica: Replica, path: bytes, method: bytes, *, chunked: bool
) -> None:
    """It is read to its end, together with its head or after it; the next request is the client's own."""
    asked = request(b"%b %b" % (method, path), FORGED, chunked=chunked)
    split = asked.index(b"\r\n\r\n") + 4
    for pieces in ([asked], [asked[:split], asked[split:]]):
        with connect(replica) as line:
            for piece in pieces:
                line.sendall(piece)
            head = line.recv(65536)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert (b"" if method == b"HEAD" else b"OK") == head.partition(b"\r\n\r\n")[2]

            line.sendall(NEXT)

            rest = read_to_end(line)
            assert 1 == rest.count(b"HTTP/1.1 200 OK")
            assert b'"path": "/next"' in rest


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_never_a_request_whatever_the_method(
    replica: Replica, method: bytes, *, chunked: bool
) -> None:
    """A handler that ignores its body leaves nothing of it on the connection, for HEAD neither."""
    asked = request(method + b" /first", FORGED, chunked=chunked)
    with connect(replica) as line:
        line.sendall(asked)
        first = line.recv(65536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"/forged" not in first.partition(b"\r\n\r\n")[2].replace(b"GET /forged", b"")

        line.sendall(NEXT)

        rest = read_to_end(line)
        assert 1 == (first + rest).count(b'"path": "/next"')
        assert 2 == (first + rest).count(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    "asked",
    [
        b"nonsense\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: fn\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: fn\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost fn\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Own: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Own: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Own: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"POST /_/health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX",
    ],
)
def test_what_is_refused_closes_the_connection(replica: Replica, asked: bytes) -> None:
    """No request follows one that could not be read: at most a refusal is answered."""
    got = send(replica, asked + FORGED)

    assert got.count(b"HTTP/1.1 ") <= 1
    assert b"forged" not in got
    assert got == b"" or b" 4" in got.partition(b"\r\n")[0]
    assert 200 == replica.ask().status


@pytest.mark.parametrize("path", [b"/first", b"/_/health"])
@pytest.mark.parametrize("extra", [FORGED, b"\x00", b"GET"])
def test_a_second_request_before_an_answer_is_not_served(replica: Replica, path: bytes, extra: bytes) -> None:
    """Whoever pipelines is not the edge: the connection is closed, and the replica goes on."""
    got = send(replica, request(b"POST " + path) + extra)

    assert got.count(b"HTTP/1.1 ") <= 1
    assert b"forged" not in got
    assert 200 == replica.ask().status
    assert not [report for report in replica.reports if report["type"] == "retiring"]


@pytest.mark.parametrize("path", [b"/first", b"/_/health"])
def test_a_connection_closes_when_it_is_asked_to(replica: Replica, path: bytes) -> None:
    """After ``Connection: close`` nothing more is served."""
    got = send(replica, request(b"POST " + path, more=b"Connection: x, Close\r\n"))

    assert 1 == got.count(b"HTTP/1.1 200 OK")


def test_a_connection_carries_one_request_after_the_other(replica: Replica) -> None:
    """Kept alive over calls with and without bodies and over health checks."""
    with replica.talk() as talk:
        for number in range(20):
            talk.send("POST", f"/{number}", b"x" * number)
            assert {"path": f"/{number}", "body": "x" * number, "own": None} == json.loads(
                talk.read_answer().text
            )
            talk.send("GET", "/_/health")
            assert "OK" == talk.read_answer().text


def test_a_value_arrives_with_every_byte_it_had(replica: Replica) -> None:
    """UTF-8 read as latin-1 ends in what a text calls blank; only blanks and tabs around it are dropped."""
    value = "voilà …\u0405".encode()
    assert value[-1:] == b"\x85"

    got = send(replica, request(b"GET /", more=b"X-Own: \t%b \r\nConnection: close\r\n" % value))

    own = json.loads(got[got.index(b"{") : got.rindex(b"}") + 1])["own"]
    assert value == own.encode("latin-1")
