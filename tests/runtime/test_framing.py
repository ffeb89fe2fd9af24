"""Heads and bodies as they go on the wire."""

from __future__ import annotations

import pytest

from tailrace_runtime.framing import FAULT_BODY, FAULT_CHUNK, fault_reply, response_head, status_line


def head(line: str, *headers: tuple[str, str], method: str = "GET", length: int | None = None) -> bytes:
    return response_head(line, headers, method=method, length=length)[0]


@pytest.mark.parametrize(
    ("line", "method", "length", "expected"),
    [
        ("200 OK", "GET", None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("200 OK", "GET", 3, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        ("200 OK", "HEAD", None, b"HTTP/1.1 200 OK\r\n\r\n"),
        ("200 OK", "HEAD", 3, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        ("204 No Content", "GET", None, b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("304 Not Modified", "GET", 0, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ],
)
def test_the_head_says_how_the_body_ends(line: str, method: str, length: int | None, expected: bytes) -> None:
    """Sized, chunked or without a body, as RFC 9112 section 6 has it."""
    assert expected == head(line, method=method, length=length)


def test_the_connection_is_not_the_handlers() -> None:
    """Hop-by-hop headers of a handler are dropped; its own go out as they are."""
    got = head("200 OK", ("Connection", "close"), ("Transfer-Encoding", "gzip"), ("X-Own", "1"))

    assert b"HTTP/1.1 200 OK\r\nX-Own: 1\r\nTransfer-Encoding: chunked\r\n\r\n" == got


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("200 OK\r\nX: y", ("A", "b")),
        ("99 Low", ("A", "b")),
        ("101 Switching Protocols", ("A", "b")),
        ("200 OK", ("A\r\nB", "c")),
        ("200 OK", ("A", "b\nC: d")),
        ("200 OK", ("A B", "c")),
        ("200 OK", ("", "c")),
        ("200 OK", ("A", "b\x01")),
        ("200 OK", ("A", "b\x7f")),
        ("200 OK", ("A", "\u20ac")),
        ("200 OK", ("A(", "c")),
        ("200 OK", ("Ä", "c")),
        ("200 O\x01K", ("A", "b")),
        ("2000 OK", ("A", "b")),
        ("200 OK", ("Content-Length", "+3")),
    ],
)
def test_a_head_that_would_split_is_refused(line: str, header: tuple[str, str]) -> None:
    """No value of a handler can end the head early or begin another."""
    with pytest.raises(ValueError, match=r"status|legal|Content-Length"):
        head(line, header)


def test_a_value_keeps_tabs_and_latin_1_letters() -> None:
    """All that RFC 9110 section 5.5 lets stand in a value goes out as it is."""
    assert b"\r\nA: b\tc \xe0\xa0\x85\r\n" in head("200 OK", ("A", "b\tc à\xa0\x85"))


def test_a_chunk_carries_its_size() -> None:
    """One piece of data is one chunk; the last chunk ends the body."""
    _, framing = response_head("200 OK", (), method="GET", length=None)

    assert b"c\r\nhello, world\r\n" == framing.frame(b"hello, world")
    assert b"" == framing.frame(b"")
    assert b"0\r\n\r\n" == framing.finish()


def test_a_sized_body_is_neither_longer_nor_shorter() -> None:
    """More than declared would begin a second response, less would hang the client: both are errors."""
    _, framing = response_head("200 OK", [("Content-Length", "3")], method="GET", length=None)

    assert b"ab" == framing.frame(b"ab")
    with pytest.raises(ValueError, match="1 bytes less"):
        framing.finish()
    with pytest.raises(ValueError, match="2 bytes more"):
        framing.frame(b"cde")


def test_a_reply_without_body_swallows_data() -> None:
    """What a handler gives for a HEAD never reaches the wire."""
    _, framing = response_head("200 OK", (), method="HEAD", length=None)

    assert b"" == framing.frame(b"data") + framing.finish()


def test_a_failure_is_told_without_its_reason() -> None:
    """The client learns whose fault it is, never the traceback."""
    got = fault_reply(method="GET")

    assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"X-Tailrace-Fault: function\r\n" in got
    assert got.endswith(b"\r\n\r\n" + FAULT_BODY)


def test_an_unknown_status_has_a_line_too() -> None:
    """Codes without a registered phrase are legal."""
    assert "299 Unknown" == status_line(299)


@pytest.mark.parametrize(
    ("kind", "method", "status", "length", "expected"),
    [
        ("text/event-stream", "GET", "200 OK", None, True),
        ("TEXT/Event-Stream ; charset=utf-8", "POST", "500 Bad", None, True),
        ("text/event-stream", "HEAD", "200 OK", None, False),
        ("text/event-stream", "GET", "204 No Content", None, False),
        ("text/event-stream", "GET", "200 OK", 3, False),
        ("text/event-streams", "GET", "200 OK", None, False),
        ("application/json", "GET", "200 OK", None, False),
    ],
)
def test_the_head_of_an_open_event_stream_goes_ahead(
    kind: str, method: str, status: str, length: int | None, expected: bool
) -> None:
    """By its content type, where a body of unknown length follows."""
    _, framing = response_head(status, [("content-TYPE", kind)], method=method, length=length)

    assert expected == framing.is_ahead


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", [None, 3])
def test_a_failure_can_be_told_in_chunks_only_and_once(method: str, length: int | None) -> None:
    """Not in a sized body, not where there is none, and not after the end."""
    _, framing = response_head("200 OK", (), method=method, length=length)

    assert (FAULT_CHUNK if (method, length) == ("GET", None) else b"") == framing.fail()
    assert b"" == framing.fail()


def test_a_body_that_ended_cannot_fail() -> None:
    """Nothing follows the last chunk."""
    _, framing = response_head("200 OK", (), method="GET", length=None)
    framing.finish()

    assert b"" == framing.fail()
