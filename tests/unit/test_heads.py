"""Which heads are refused, and with what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.edge.heads import Request
from tailrace.wire.heads import HEAD_LIMIT, HeadReader, HeadRefused, parse_request, parse_response


def refuse(head: bytes) -> int:
    """The status a head is refused with; 0 when it is accepted or not complete."""
    try:
        found = HeadReader().feed(head)
        if found is not None:
            parse_request(found[0])
    except HeadRefused as refused:
        return refused.status
    return 0


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (b"GET / HTTP/1.0\r\n\r\n", 0),
        (b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 0),
        (b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * HEAD_LIMIT, 431),
    ],
)
def test_ambiguous_heads_are_refused(head: bytes, status: int) -> None:
    """A proxy must never pass on what two parsers may read in two ways."""
    assert refuse(head) == status


def test_a_head_that_is_not_complete_is_waited_for() -> None:
    """Every proper prefix of a head is neither accepted nor refused."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    assert [HeadReader().feed(head[:n]) for n in range(len(head))] == [None] * len(head)
    assert HeadReader().feed(head + b"rest") == (head, b"rest")


def test_a_head_is_the_same_however_it_is_cut() -> None:
    """Byte by byte and in any two pieces it is cut out whole, and what follows is handed back."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for cut in range(1, len(head)):
        reader = HeadReader()
        assert reader.feed(head[:cut]) is None
        assert reader.feed(head[cut:] + b"rest") == (head, b"rest")
    reader = HeadReader()
    found = [reader.feed(bytes([byte])) for byte in head * 2]
    assert [one for one in found if one] == [(head, b"")] * 2
    with pytest.raises(HeadRefused):
        [reader.feed(piece) for piece in (b"GET / HTTP/1.1\r", b"\nHost: a", b"\n")]


@pytest.mark.parametrize(
    "head",
    [
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_a_replicas_head_that_cannot_be_relayed_is_refused(head: bytes) -> None:
    """What it says about its own body must be plain, or nobody can tell where it ends."""
    with pytest.raises(HeadRefused):
        parse_response(head)


def made(head: bytes) -> Request:
    return Request(parse_request(head), peer=b"9.9.9.9", is_tls=False)


def told(request: Request) -> tuple[object, ...]:
    """All that a call asks of a request."""
    return (
        request.prefix, request.framing, request.label, request.has_body, request.client_id,
        request.timeout_s, request.accepts_json, request.wants_events, request.forwarded,
        request.head.keep_alive, request.head.is_http11, request.head.host, request.head.content_length,
        request.head.is_chunked,
    )  # fmt: skip


_VALUES = st.sampled_from(
    [b"", b"1", b"2", b"chunked", b"close", b"x-a", b"text/event-stream", b"10s", b"a b"]
)
_NAMES = st.sampled_from(
    [b"x-a", b"X-B", b"traceparent", b"x_c", b"Accept", b"Connection", b"X-Timeout", b"X-Forwarded-For",
     b"X-Call-Id", b"Content-Length", b"Transfer-Encoding", b"TE", b"Cookie", b"bad name", b"Host"]
)  # fmt: skip
_HEADS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5).map(
    lambda headers: (
        b"GET /function/fn HTTP/1.1\r\nHost: a\r\n"
        + b"".join(b"%b: %b\r\n" % header for header in headers)
        + b"\r\n"
    )
)


@given(st.lists(_HEADS, min_size=2, max_size=6))
def test_a_renewed_request_is_the_one_that_would_be_made_anew(heads: list[bytes]) -> None:
    """Whatever head follows on a connection: same bytes sent on, same facts, or the same refusal."""
    last, request = b"", None
    for head in heads:
        try:
            fresh: Request | None = made(head)
        except HeadRefused:
            fresh = None
        try:
            is_renewed = request is not None and request.renew(last, head)
        except HeadRefused:
            assert fresh is None
            continue
        if not is_renewed:
            last, request = (head, fresh) if fresh is not None else (last, request)
            continue

        assert request is not None
        assert fresh is not None
        assert told(request) == told(fresh)
        last = head


@pytest.mark.parametrize(
    ("line", "sent", "client"),
    [
        (b"X-Forwarded-For: 9.9.9.9\r\n", [b"x-forwarded-for: 9.9.9.9"], b"9.9.9.9"),
        (b"", [], b"gateway"),
    ],
)
def test_the_private_sockets_end_is_no_hop(line: bytes, sent: list[bytes], client: bytes) -> None:
    """What comes over it is its caller's, or a schedule's that has none."""
    head = parse_request(b"POST /function/fn HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n")

    request = Request(head, peer=b"unix", is_tls=False, is_private=True)

    assert sent == [text for text in request.prefix.split(b"\r\n") if text.startswith(b"x-forwarded-for")]
    assert client == request.client
