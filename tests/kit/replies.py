"""Answers of replicas that proxies and clients disagree about, each with what Tailrace makes of it.

The second table of docs/explanation/strictness.md. `tests/edge/test_differential.py` holds every row.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.hostile import raw

OK = b"HTTP/1.1 200 OK"
_CHUNKED = b"Transfer-Encoding: chunked"
_EVENTS = b"Content-Type: text/event-stream"
_ABC = b"3\r\nabc\r\n"
_LAST = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Got:
    """What a client gets: a whole answer, or one that it sees is broken off. ``body`` is what arrives.

    ``is_told``: broken off, and said so inside the body, in the dialect of the stream.
    """

    status: int
    body: bytes
    is_whole: bool = True
    is_told: bool = False


REFUSED = Got(502, b"")


@dataclass(frozen=True, slots=True)
class Reply:
    """One hostile answer: its name, what it tries, its bytes, and what the client gets of them.

    The replica closes behind them. ``because`` is as in `hostile.Case`.
    """

    name: str
    tries: str
    data: bytes
    expected: Got
    because: str = ""


WHOLE = Got(200, b"abc")
EMPTY = Got(200, b"")
BROKEN = Got(200, b"abc", is_whole=False)
_OTHER = raw(OK, b"Content-Length: 4", body=b"evil")

HEADS = (
    Reply("status-000", "status 000", raw(b"HTTP/1.1 000 x", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("status-099", "status 099, an interim one for whoever asks `< 200`",
          raw(b"HTTP/1.1 099 x", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("status-600", "status 600", raw(b"HTTP/1.1 600 x", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("status-4-digits", "status 2000", raw(b"HTTP/1.1 2000 x", b"Content-Length: 3", body=b"abc"),
          REFUSED),
    Reply("status-two-blanks", "two blanks before the status",
          raw(b"HTTP/1.1  200 OK", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("status-101", "101 to a request that asked for no upgrade",
          raw(b"HTTP/1.1 101 Switching", b"Upgrade: x", b"Connection: upgrade", body=b"abc"), REFUSED),
    Reply("reason-missing", "no reason, which RFC 9112 4 wants read",
          raw(b"HTTP/1.1 200", b"Content-Length: 3", body=b"abc"), WHOLE),
    Reply("reason-nul", "a NUL in the reason", raw(b"HTTP/1.1 200 O\x00K", b"Content-Length: 3", body=b"abc"),
          REFUSED),
    Reply("version-2", "`HTTP/2 200`", raw(b"HTTP/2 200 OK", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("version-0.9", "a body and nothing else", b"abc\r\n\r\n", REFUSED),
    Reply("lf-everywhere", "bare LFs instead of CRLFs",
          raw(OK, b"Content-Length: 3", body=b"abc").replace(b"\r\n", b"\n"), REFUSED),
    Reply("header-lf", "a bare LF in a value: response splitting",
          raw(OK, b"X: a\nSet-Cookie: b", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("header-cr", "a bare CR in a value",
          raw(OK, b"X: a\rSet-Cookie: b", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("header-nul", "a NUL in a value", raw(OK, b"X: a\x00b", b"Content-Length: 3", body=b"abc"),
          REFUSED),
    Reply("header-folded", "a folded line", raw(OK, b"X: a\r\n b", b"Content-Length: 3", body=b"abc"),
          REFUSED),
    Reply("header-blank-before-colon", "`Content-Length : 3`", raw(OK, b"Content-Length : 3", body=b"abc"),
          REFUSED),
    Reply("header-without-colon", "a line without a colon",
          raw(OK, b"nocolon", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("head-70-kib", "a head of 70 KiB",
          raw(OK, b"X: " + b"a" * 70000, b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("head-cut", "the connection ends in the head", b"HTTP/1.1 200 OK\r\nContent-Le", REFUSED),
    Reply("nothing", "the connection ends before an answer", b"", REFUSED),
    Reply("interim", "103, then an answer: interim ones are dropped",
          raw(b"HTTP/1.1 103 Early Hints", b"Link: x") + raw(OK, b"Content-Length: 3", body=b"abc"), WHOLE),
    Reply("interim-flood", "a hundred interim answers",
          raw(b"HTTP/1.1 103 Early Hints") * 100 + raw(OK, b"Content-Length: 0"), REFUSED),
    Reply("empty-line-before", "an empty line before the status line",
          b"\r\n" + raw(OK, b"Content-Length: 3", body=b"abc"), WHOLE,
          "one reader cuts heads out of both directions; nothing hides in it, and it is not sent on"),
)  # fmt: skip

LENGTHS = (
    Reply("length-twice-differing", "two `Content-Length` that differ",
          raw(OK, b"Content-Length: 3", b"Content-Length: 0", body=b"abc"), REFUSED),
    Reply("length-twice-equal", "two equal `Content-Length`",
          raw(OK, b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), REFUSED),
    Reply("length-list", "`Content-Length: 3, 3`", raw(OK, b"Content-Length: 3, 3", body=b"abc"), REFUSED),
    Reply("length-plus", "`Content-Length: +3`", raw(OK, b"Content-Length: +3", body=b"abc"), REFUSED),
    Reply("length-hex", "`Content-Length: 0x3`", raw(OK, b"Content-Length: 0x3", body=b"abc"), REFUSED),
    Reply("length-minus", "`Content-Length: -1`", raw(OK, b"Content-Length: -1", body=b"abc"), REFUSED),
    Reply("length-over-64-bits", "`Content-Length` of 2**64 + 3",
          raw(OK, b"Content-Length: 18446744073709551619", body=b"abc"), REFUSED),
    Reply("length-and-coding", "`Content-Length` beside `Transfer-Encoding`",
          raw(OK, b"Content-Length: 3", _CHUNKED, body=_ABC + _LAST), REFUSED),
    Reply("coding-twice", "`Transfer-Encoding` twice", raw(OK, _CHUNKED, _CHUNKED, body=_ABC + _LAST),
          REFUSED),
    Reply("coding-gzip-chunked", "`gzip, chunked`",
          raw(OK, b"Transfer-Encoding: gzip, chunked", body=_ABC + _LAST), REFUSED),
    Reply("coding-unknown", "`Transfer-Encoding: cow`", raw(OK, b"Transfer-Encoding: cow", body=b"abc"),
          REFUSED),
    Reply("coding-in-http10", "`Transfer-Encoding` in HTTP/1.0",
          raw(b"HTTP/1.0 200 OK", _CHUNKED, body=_ABC + _LAST), REFUSED),
    Reply("body-too-short", "fewer bytes than the length says", raw(OK, b"Content-Length: 9", body=b"abc"),
          BROKEN),
    Reply("body-too-long", "a second answer behind the first",
          raw(OK, b"Content-Length: 3", body=b"abc" + _OTHER), WHOLE),
    Reply("body-of-204", "204 with a body", raw(b"HTTP/1.1 204 No Content", body=b"abc"), Got(204, b"")),
    Reply("body-of-304", "304 with a body", raw(b"HTTP/1.1 304 Not Modified", body=b"abc"), Got(304, b"")),
    Reply("body-to-the-end", "no length: the body ends with the connection", raw(OK, body=b"abc"), WHOLE),
)  # fmt: skip

CHUNKS = (
    Reply("chunks", "a chunked body", raw(OK, _CHUNKED, body=_ABC + _LAST), WHOLE),
    Reply("chunks-then-answer", "a second answer behind the last chunk",
          raw(OK, _CHUNKED, body=_ABC + _LAST + _OTHER), WHOLE),
    Reply("chunks-cut", "the last chunk is missing", raw(OK, _CHUNKED, body=_ABC), BROKEN),
    Reply("chunks-cut-in-data", "the connection ends inside a chunk", raw(OK, _CHUNKED, body=b"9\r\nabc"),
          BROKEN),
    Reply("chunks-cut-before-last-crlf", "the empty line at the end is missing",
          raw(OK, _CHUNKED, body=_ABC + b"0\r\n"), BROKEN),
    Reply("chunk-size-minus", "a size of -3: refused while nothing was sent, else broken off",
          raw(OK, _CHUNKED, body=_ABC + b"-3\r\nabc\r\n" + _LAST), REFUSED),
    Reply("chunk-size-hex-prefix", "a size of 0x3", raw(OK, _CHUNKED, body=_ABC + b"0x3\r\nabc\r\n" + _LAST),
          REFUSED),
    Reply("chunk-size-over-64-bits", "a size of 2**64 + 3",
          raw(OK, _CHUNKED, body=_ABC + b"10000000000000003\r\nabc\r\n" + _LAST), REFUSED),
    Reply("chunk-data-too-long", "more data than the size says",
          raw(OK, _CHUNKED, body=b"3\r\nabcd\r\n" + _LAST), REFUSED),
    Reply("chunk-lf", "bare LFs instead of CRLFs", raw(OK, _CHUNKED, body=_ABC + b"3\nabc\n0\n\n"), REFUSED),
    Reply("chunk-extension", "an extension is dropped", raw(OK, _CHUNKED, body=b"3;a=b\r\nabc\r\n" + _LAST),
          WHOLE),
    Reply("chunk-trailer", "a trailer is dropped",
          raw(OK, _CHUNKED, body=_ABC + b"0\r\nSet-Cookie: a\r\n\r\n"), WHOLE),
)  # fmt: skip

STREAMS = (
    Reply("events-cut", "an event stream of unknown make breaks off",
          raw(OK, _EVENTS, _CHUNKED, body=b"9\r\ndata: a\n\n\r\n"), Got(200, b"data: a\n\n", is_whole=False)),
    Reply("native-cut", "a native stream breaks off inside an event",
          raw(OK, _EVENTS, b"X-Tailrace-Dialect: native", _CHUNKED,
              body=b"9\r\ndata: a\n\n\r\n6\r\ndata: \r\n"), Got(200, b"data: a\n\n", is_told=True)),
    Reply("ndjson-cut", "lines of JSON break off inside a line",
          raw(OK, b"Content-Type: application/x-ndjson", _CHUNKED,
              body=b"8\r\n{\"a\":1}\n\r\n4\r\n{\"b\"\r\n"), Got(200, b'{"a":1}\n', is_told=True)),
    Reply("sized-events-cut", "an event stream with a length breaks off: no room for a word",
          raw(OK, _EVENTS, b"Content-Length: 99", body=b"data: a\n\n"),
          Got(200, b"data: a\n\n", is_whole=False)),
)  # fmt: skip

GROUPS: tuple[tuple[str, tuple[Reply, ...]], ...] = (
    ("Heads of answers", HEADS),
    ("How long is the answer?", LENGTHS),
    ("Chunks of answers", CHUNKS),
    ("Streams that break", STREAMS),
)
REPLIES = tuple(reply for _, replies in GROUPS for reply in replies)
