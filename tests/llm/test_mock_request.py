"""mock.request: bytes into requests, bounded and strict."""

from __future__ import annotations

import pytest

from tailrace.llm.mock.request import BODY_LIMIT_BYTES, BadRequest, RequestReader

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def read_all(data: bytes, *, piece: int) -> list[tuple[str, bytes]]:
    """Method and body of every request in data, fed in pieces."""
    reader, found = RequestReader(), []
    for at in range(0, len(data), piece):
        reader.feed(data[at : at + piece])
        while request := reader.next():
            found.append((request.method, request.body))
    return found


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_requests_are_read_however_the_bytes_arrive(piece: int) -> None:
    """Sized and chunked bodies, pipelined, in any cut."""
    data = (
        HEAD + b"Content-Length: 5\r\n\r\nhello"
        b"GET /health HTTP/1.1\r\n\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\n\r\n"
    )

    assert [("POST", b"hello"), ("GET", b""), ("POST", b"abc0123456789")] == read_all(data, piece=piece)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Bad Name: 1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Content-Length: +1\r\n\r\nx", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n", 413),
        (HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_LIMIT_BYTES + 1), 413),
        (b"GET /" + b"x" * 70_000, 431),
    ],
)
def test_hostile_bytes_are_refused(data: bytes, status: int) -> None:
    """What is ambiguous or too large gets a status, not a guess."""
    with pytest.raises(BadRequest) as refused:
        read_all(data, piece=100_000)

    assert refused.value.status == status


def test_a_flood_is_refused_before_it_is_kept() -> None:
    """Memory per connection is bounded by one head and one body."""
    reader = RequestReader()
    reader.feed(HEAD + b"Content-Length: 9\r\n\r\n")

    for _ in range(BODY_LIMIT_BYTES >> 20):
        reader.feed(b"x" * (1 << 20))

    with pytest.raises(BadRequest):
        reader.feed(b"x" * (1 << 20))


def test_a_client_that_waits_is_told_to_go_on_once() -> None:
    """``Expect: 100-continue`` is answered before the body, once."""
    reader = RequestReader()
    reader.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")

    assert reader.next() is None
    assert reader.wants_continue()
    assert not reader.wants_continue()
