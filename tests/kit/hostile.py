"""Requests that servers disagree about, each with what Tailrace does with it: the list behind
docs/explanation/strictness.md. `tests/edge/test_differential.py` holds every row.

``expected`` is what happens, in order: a status is a refusal or an answer of the edge's own, a `Passed`
is a request that reaches the function exactly so; nothing at all means that the edge waits for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """A request as the function gets it. Headers without the platform's own and without framing."""

    method: bytes
    target: bytes
    body: bytes = b""
    headers: Headers = ()


CONTROL = "control plane"
Outcome = int | str | Passed


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile or ambiguous request: its name, what it tries, its bytes, what Tailrace does.

    ``because`` explains a case in which Tailrace lets through what nginx and h11 both refuse.
    """

    name: str
    tries: str
    data: bytes
    expected: tuple[Outcome, ...]
    because: str = ""


FN = b"/function/fn/"
_CLOSE = b"Connection: close"
_CHUNKED = b"Transfer-Encoding: chunked"


def raw(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A request with exactly this first line and these header lines."""
    return b"\r\n".join((first, *headers, b"", b"")) + body


def get(*headers: bytes, target: bytes = FN, host: bytes = b"Host: a") -> bytes:
    """A GET that asks for the connection's end, with these header lines."""
    return raw(b"GET %b HTTP/1.1" % target, host, *headers, _CLOSE)


def post(*headers: bytes, body: bytes = b"") -> bytes:
    """A POST with these header lines and this body."""
    return raw(b"POST %b HTTP/1.1" % FN, b"Host: a", *headers, _CLOSE, body=body)


def sized(length: bytes, body: bytes = b"abcde") -> bytes:
    """A POST with this text as its Content-Length."""
    return post(b"Content-Length: " + length, body=body)


def chunks(coded: bytes) -> bytes:
    """A POST with this chunked body."""
    return post(_CHUNKED, body=coded)


SMUGGLED = get(target=FN + b"smuggled")
GOT = Passed(b"GET", b"/")
POSTED = Passed(b"POST", b"/")
POSTED_5 = Passed(b"POST", b"/", b"abcde")
LAST = b"0\r\n\r\n"

LENGTHS = (
    Case("length-and-coding",
         "CL.TE: `Content-Length`, then `Transfer-Encoding`, a request behind the last chunk",
         post(b"Content-Length: 6", _CHUNKED, body=LAST + b"G" + SMUGGLED), (400,)),
    Case("coding-and-length", "TE.CL: `Transfer-Encoding`, then a `Content-Length` that ends inside a chunk",
         post(_CHUNKED, b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED + LAST), (400,)),
    Case("length-twice-differing", "two `Content-Length` that differ",
         post(b"Content-Length: 5", b"Content-Length: 0", body=b"abcde"), (400,)),
    Case("length-twice-equal", "two equal `Content-Length`",
         post(b"Content-Length: 5", b"Content-Length: 5", body=b"abcde"), (400,)),
    Case("length-twice-first-empty", "an empty `Content-Length` before a good one",
         post(b"Content-Length:", b"Content-Length: 5", body=b"abcde"), (400,)),
    Case("length-list-equal", "`Content-Length: 5, 5`", sized(b"5, 5"), (400,)),
    Case("length-list-differing", "`Content-Length: 5, 6`", sized(b"5, 6"), (400,)),
    Case("length-plus", "`Content-Length: +5`", sized(b"+5"), (400,)),
    Case("length-minus", "`Content-Length: -5`", sized(b"-5"), (400,)),
    Case("length-hex", "`Content-Length: 0x5`", sized(b"0x5"), (400,)),
    Case("length-underscore", "`Content-Length: 0_5`, a number for Python's int()", sized(b"0_5"), (400,)),
    Case("length-float", "`Content-Length: 5.0`", sized(b"5.0"), (400,)),
    Case("length-two-numbers", "`Content-Length: 5 5`", sized(b"5 5"), (400,)),
    Case("length-empty", "an empty `Content-Length`", sized(b"", b""), (400,)),
    Case("length-unicode", "`Content-Length` in full-width digits, digits for Python's isdigit()",
         sized(b"\xef\xbc\x95"), (400,)),
    Case("length-superscript", "`Content-Length: \u00b2` in Latin-1", sized(b"\xb2", b"ab"), (400,)),
    Case("length-over-64-bits", "`Content-Length` of 2**64 + 5", sized(b"18446744073709551621"), (400,)),
    Case("length-over-the-limit", "`Content-Length` above the limit for bodies", sized(b"99999999999999"),
         (413,)),
    Case("length-zeros-before", "`Content-Length: 005` is five everywhere", sized(b"005"), (POSTED_5,)),
    Case("length-blanks-behind", "blanks behind the number are no part of it", sized(b"5 \t "), (POSTED_5,)),
    Case("length-blank-before-colon", "`Content-Length : 5`", post(b"Content-Length : 5", body=b"abcde"),
         (400,)),
    Case("length-underscored-name", "`Content_Length: 5`, which CGI-like servers read as the real one",
         post(b"Content_Length: 5"), (POSTED,)),
    Case("get-with-body", "GET with a body: legal, and servers that skip it read it as a request",
         raw(b"GET %b HTTP/1.1" % FN, b"Host: a", b"Content-Length: 5", _CLOSE, body=b"abcde"),
         (Passed(b"GET", b"/", b"abcde"),)),
    Case("body-too-long", "more bytes than `Content-Length` says, on a connection that stays",
         raw(b"POST %b HTTP/1.1" % FN, b"Host: a", b"Content-Length: 5", body=b"abcdeGARBAGE\r\n\r\n"),
         (POSTED_5, 400)),
    Case("body-too-short", "fewer bytes than `Content-Length` says", sized(b"9"), ()),
    Case("body-is-a-request", "a body that reads like a request, and is one for whoever loses count",
         sized(b"%d" % len(SMUGGLED), SMUGGLED), (Passed(b"POST", b"/", SMUGGLED),)),
)  # fmt: skip

CODINGS = (
    Case("coding-twice", "`Transfer-Encoding: chunked` twice", post(_CHUNKED, _CHUNKED, body=LAST), (400,)),
    Case("coding-twice-second-unknown", "TE.TE: `chunked`, then a second one that nobody knows",
         post(_CHUNKED, b"Transfer-encoding: cow", body=LAST), (400,)),
    Case("coding-identity-and-chunked", "`identity`, then `chunked`",
         post(b"Transfer-Encoding: identity", _CHUNKED, body=LAST), (400,)),
    Case("coding-identity-and-length", "`Transfer-Encoding: identity` beside a length",
         post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"abcde"), (400,)),
    Case("coding-gzip-chunked", "`gzip, chunked`: nothing here undoes gzip",
         post(b"Transfer-Encoding: gzip, chunked", body=LAST), (400,)),
    Case("coding-chunked-gzip", "`chunked, gzip`: the end cannot be found",
         post(b"Transfer-Encoding: chunked, gzip", body=LAST), (400,)),
    Case("coding-comma-behind", "`chunked,`", post(b"Transfer-Encoding: chunked,", body=LAST), (400,)),
    Case("coding-quoted", "`\"chunked\"`", post(b'Transfer-Encoding: "chunked"', body=LAST), (400,)),
    Case("coding-parameter", "`chunked;q=1`", post(b"Transfer-Encoding: chunked;q=1", body=LAST), (400,)),
    Case("coding-xchunked", "`xchunked`, found by whoever looks for a part",
         post(b"Transfer-Encoding: xchunked", body=LAST), (400,)),
    Case("coding-empty", "an empty `Transfer-Encoding`", post(b"Transfer-Encoding:", body=LAST), (400,)),
    Case("coding-vertical-tab", "a vertical tab before `chunked`, a blank for C's isspace()",
         post(b"Transfer-Encoding: \x0bchunked", body=LAST), (400,)),
    Case("coding-nul", "`chunked` and a NUL, its end for C's strcmp()",
         post(b"Transfer-Encoding: chunked\x00", body=LAST), (400,)),
    Case("coding-blank-before-colon", "`Transfer-Encoding : chunked`",
         post(b"Transfer-Encoding : chunked", body=LAST), (400,)),
    Case("coding-tab-before-colon", "a tab before the colon",
         post(b"Transfer-Encoding\t: chunked", body=LAST), (400,)),
    Case("coding-blank-before-name", "a blank before the name: a folded line for some",
         post(b"X: y", b" Transfer-Encoding: chunked", body=LAST), (400,)),
    Case("coding-folded", "`chunked` in a folded line", post(b"Transfer-Encoding:\r\n chunked", body=LAST),
         (400,)),
    Case("coding-behind-lf", "`Transfer-Encoding` behind a bare LF in another value",
         post(b"X: y\nTransfer-Encoding: chunked", body=LAST), (400,)),
    Case("coding-behind-cr", "`Transfer-Encoding` behind a bare CR in another value",
         post(b"X: y\rTransfer-Encoding: chunked", body=LAST), (400,)),
    Case("coding-underscored-name", "`Transfer_Encoding: chunked` beside a length",
         post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"abcde"), (POSTED_5,)),
    Case("coding-soft-hyphen-name", "a soft hyphen (Latin-1) in `Transfer-Encoding`",
         post(b"Transfer\xadEncoding: chunked", body=LAST), (400,)),
    Case("coding-upper-case", "`CHUNKED` is the same coding",
         post(b"Transfer-Encoding: CHUNKED", body=b"5\r\nabcde\r\n" + LAST), (POSTED_5,)),
    Case("coding-blanks-behind", "blanks behind `chunked` are no part of it",
         post(b"Transfer-Encoding: chunked \t", body=b"5\r\nabcde\r\n" + LAST), (POSTED_5,)),
    Case("coding-in-http10", "`Transfer-Encoding` in HTTP/1.0",
         raw(b"POST %b HTTP/1.0" % FN, b"Host: a", _CHUNKED, body=LAST), (400,)),
)  # fmt: skip

CHUNKS = (
    Case("chunk-size-64-bits", "a size of 2**64 - 1: the limit for bodies strikes when its bytes come",
         chunks(b"f" * 16 + b"\r\nabc"), ()),
    Case("chunk-size-over-64-bits", "a size of 2**64 + 5", chunks(b"10000000000000005\r\nabcde\r\n" + LAST),
         (400,)),
    Case("chunk-size-minus", "a size of -5", chunks(b"-5\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-plus", "a size of +5", chunks(b"+5\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-hex-prefix", "a size of 0x5", chunks(b"0x5\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-underscore", "a size of 0_5, a number for Python's int()",
         chunks(b"0_5\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-empty", "no size", chunks(b"\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-blank-before", "a blank before the size", chunks(b" 5\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-blank-behind", "a blank behind the size", chunks(b"5 \r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-size-lf", "a bare LF behind the size", chunks(b"5\nabcde\r\n" + LAST), (400,)),
    Case("chunk-data-lf", "a bare LF behind the data", chunks(b"5\r\nabcde\n" + LAST), (400,)),
    Case("chunk-data-too-long", "more data than the size says", chunks(b"5\r\nabcdef\r\n" + LAST), (400,)),
    Case("chunk-data-without-end", "no line end behind the data", chunks(b"5\r\nabcde" + LAST), (400,)),
    Case("chunk-extension", "an extension is read and dropped", chunks(b"5;a=b\r\nabcde\r\n" + LAST),
         (POSTED_5,)),
    Case("chunk-extension-lf", "TERM.EXT: a bare LF in an extension", chunks(b"5;a\nabcde\r\n" + LAST),
         (400,)),
    Case("chunk-extension-cr", "a bare CR in an extension", chunks(b"5;a\rb\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-extension-nul", "a NUL in an extension", chunks(b"5;\x00\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-extension-blank-before", "a blank before an extension", chunks(b"5 ;a\r\nabcde\r\n" + LAST),
         (400,)),
    Case("chunk-extension-long", "an extension of 300 bytes: nobody bounds what is not body",
         chunks(b"5;" + b"a" * 300 + b"\r\nabcde\r\n" + LAST), (400,)),
    Case("chunk-last-with-lf", "the last chunk ends in a bare LF", chunks(b"5\r\nabcde\r\n0\n\n"), (400,)),
    Case("chunk-last-crlf-missing", "the empty line at the end is missing", chunks(b"5\r\nabcde\r\n0\r\n"),
         ()),
    Case("chunk-trailer", "a trailer is read and dropped", chunks(b"5\r\nabcde\r\n0\r\nA: b\r\n\r\n"),
         (POSTED_5,)),
    Case("chunk-trailer-length", "`Content-Length` as a trailer",
         chunks(b"5\r\nabcde\r\n0\r\nContent-Length: 7\r\n\r\n"), (POSTED_5,)),
    Case("chunk-trailer-malformed", "a trailer without a colon", chunks(b"0\r\nnocolon\r\n\r\n"), (400,)),
    Case("chunk-trailers-endless", "trailers of 16 KiB",
         chunks(b"0\r\n" + b"A: bbbbbbbbbbbbb\r\n" * 1000 + b"\r\n"), (400,)),
)  # fmt: skip

LINES = (
    Case("method-lower-case", "`get`: methods are case-sensitive", raw(b"get %b HTTP/1.1" % FN, b"Host: a"),
         (400,)),
    Case("method-connect", "CONNECT", raw(b"CONNECT a:80 HTTP/1.1", b"Host: a:80"), (405,)),
    Case("method-trace", "TRACE sends back what a proxy added", raw(b"TRACE %b HTTP/1.1" % FN, b"Host: a"),
         (405,)),
    Case("method-unknown", "a method of somebody else's", raw(b"BREW %b HTTP/1.1" % FN, b"Host: a"), (405,)),
    Case("http09", "HTTP/0.9: a line without a version", b"GET /function/fn/\r\n\r\n", (400,)),
    Case("http09-with-version", "`HTTP/0.9`", raw(b"GET %b HTTP/0.9" % FN, b"Host: a"), (505,)),
    Case("http2-preface", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    Case("version-1.2", "`HTTP/1.2`", raw(b"GET %b HTTP/1.2" % FN, b"Host: a", _CLOSE), (505,)),
    Case("version-1.10", "`HTTP/1.10`", raw(b"GET %b HTTP/1.10" % FN, b"Host: a", _CLOSE), (400,)),
    Case("version-lower-case", "`http/1.1`", raw(b"GET %b http/1.1" % FN, b"Host: a", _CLOSE), (400,)),
    Case("version-other-protocol", "`RTSP/1.0`", raw(b"GET %b RTSP/1.0" % FN, b"Host: a"), (400,)),
    Case("version-blank-behind", "a blank behind the version",
         raw(b"GET %b HTTP/1.1 " % FN, b"Host: a", _CLOSE), (400,)),
    Case("line-two-blanks", "two blanks in the first line", raw(b"GET  %b HTTP/1.1" % FN, b"Host: a", _CLOSE),
         (400,)),
    Case("line-tab", "a tab in the first line", raw(b"GET\t%b HTTP/1.1" % FN, b"Host: a", _CLOSE), (400,)),
    Case("line-blank-before", "a blank before the method", raw(b" GET %b HTTP/1.1" % FN, b"Host: a", _CLOSE),
         (400,)),
    Case("line-empty-before", "one empty line before a request, as old browsers sent", b"\r\n" + get(),
         (GOT,)),
    Case("line-two-empty-before", "two empty lines before a request", b"\r\n\r\n" + get(), (400,)),
    Case("line-lf-before", "a bare LF before a request", b"\n" + get(), (400,)),
    Case("line-byte-order-mark", "a byte order mark before a request", b"\xef\xbb\xbf" + get(), (400,)),
    Case("lf-everywhere", "bare LFs instead of CRLFs", get().replace(b"\r\n", b"\n"), (400,)),
    Case("tls-hello", "the beginning of a TLS handshake",
         b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
    Case("proxy-protocol", "PROXY protocol from nobody who was asked to",
         b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + get(), (400,)),
)  # fmt: skip

TARGETS = (
    Case("target-blank", "a blank in the target", get(target=FN + b"a b"), (400,)),
    Case("target-fragment", "a fragment", get(target=FN + b"a#b"), (400,)),
    Case("target-nul", "a NUL in the target", get(target=FN + b"a\x00b"), (400,)),
    Case("target-encoded-nul", "`%00` is the function's to judge", get(target=FN + b"a%00b"),
         (Passed(b"GET", b"/a%00b"),)),
    Case("target-8-bit", "bytes that are not ASCII in the target", get(target=FN + b"\xc3\xa9"), (400,)),
    Case("target-dots", "`/function/fn/../../system/functions` names no control path",
         get(target=FN + b"../../system/functions"), (Passed(b"GET", b"/../../system/functions"),)),
    Case("target-dots-as-function", "`/function/../system/functions`",
         get(target=b"/function/../system/functions"), (404,)),
    Case("target-encoded-dots", "`/function/%2e%2e/system/functions`",
         get(target=b"/function/%2e%2e/system/functions"), (404,)),
    Case("target-encoded-slash", "`%2f` stays what it is", get(target=FN + b"a%2fb"),
         (Passed(b"GET", b"/a%2fb"),)),
    Case("target-encoded-prefix", "`/%66unction/fn/` is not `/function/fn/`", get(target=b"/%66unction/fn/"),
         (CONTROL,)),
    Case("target-double-slash", "`//function/fn/` is not `/function/fn/`", get(target=b"//function/fn/"),
         (CONTROL,)),
    Case("target-double-slash-within", "`/function//fn/` names no function", get(target=b"/function//fn/"),
         (404,)),
    Case("target-backslash", "backslashes are no slashes", get(target=FN + b"..\\..\\system"),
         (Passed(b"GET", b"/..\\..\\system"),)),
    Case("target-bad-percent", "`%zz` is the function's to judge", get(target=FN + b"%zz"),
         (Passed(b"GET", b"/%zz"),)),
    Case("target-asterisk", "`OPTIONS *`", raw(b"OPTIONS * HTTP/1.1", b"Host: a", _CLOSE), (400,)),
    Case("target-relative", "a target without its slash", get(target=b"function/fn/"), (400,)),
    Case("target-authority", "`GET host:port`", get(target=b"a:80"), (400,)),
    Case("url-same-host", "an absolute URL of the same host", get(target=b"http://a" + FN), (GOT,)),
    Case("url-other-host", "an absolute URL of another host than `Host`", get(target=b"http://b" + FN),
         (400,)),
    Case("url-with-user", "an absolute URL with a user", get(target=b"http://u@a" + FN), (400,)),
    Case("url-other-scheme", "a `file:` URL", get(target=b"file:///etc/passwd"), (400,)),
    Case("target-8-kib", "a target of 8 KiB", get(target=FN + b"a" * 8000),
         (Passed(b"GET", b"/" + b"a" * 8000),)),
    Case("target-70-kib", "a target of 70 KiB", get(target=FN + b"a" * 70000), (431,)),
)  # fmt: skip

HEADERS = (
    Case("host-missing", "no `Host`", raw(b"GET %b HTTP/1.1" % FN, _CLOSE), (400,)),
    Case("host-twice-equal", "two equal `Host`", get(b"Host: a"), (400,)),
    Case("host-twice-differing", "two `Host` that differ", get(b"Host: b"), (400,)),
    Case("host-list", "`Host: a, b`", get(host=b"Host: a, b"), (400,)),
    Case("host-with-user", "`Host: b@a`", get(host=b"Host: b@a"), (400,)),
    Case("host-with-path", "`Host: a/b`", get(host=b"Host: a/b"), (400,)),
    Case("host-blank-before-colon", "`Host : a`", get(host=b"Host : a"), (400,)),
    Case("host-empty", "an empty `Host` is legal", get(host=b"Host:"), (GOT,)),
    Case("host-missing-in-http10", "no `Host` in HTTP/1.0", raw(b"GET %b HTTP/1.0" % FN), (GOT,)),
    Case("header-lf", "a line that ends in a bare LF", get(b"X: a\nY: b"), (400,)),
    Case("header-cr", "a bare CR in a value", get(b"X: a\rb"), (400,)),
    Case("header-nul", "a NUL in a value", get(b"X: a\x00b"), (400,)),
    Case("header-escape", "a terminal's escape sequence in a value", get(b"X: \x1b[2J"), (400,)),
    Case("header-folded", "a folded line", get(b"X: a\r\n b"), (400,)),
    Case("header-without-colon", "a line without a colon", get(b"nocolon"), (400,)),
    Case("header-without-name", "a line without a name", get(b": x"), (400,)),
    Case("header-blank-in-name", "a blank in a name", get(b"X Y: z"), (400,)),
    Case("header-nul-in-name", "a NUL in a name", get(b"X\x00: z"), (400,)),
    Case("header-8-bit-name", "bytes that are not ASCII in a name", get(b"X\xc3\xa9: z"), (400,)),
    Case("header-8-bit-value", "bytes that are not ASCII in a value are passed on", get(b"X: \xc3\xa9"),
         (Passed(b"GET", b"/", b"", ((b"x", b"\xc3\xa9"),)),)),
    Case("header-underscored", "`X_Call_Id`, which WSGI cannot tell from `X-Call-Id`, is dropped",
         get(b"X_Call_Id: me"), (GOT,)),
    Case("header-call-id-forged", "two call ids of the client's own", get(b"X-Call-Id: a", b"X-Call-Id: b"),
         (400,)),
    Case("headers-201", "more than 200 headers", get(*[b"X: y"] * 300), (431,)),
    Case("header-60-kib",
         "60 KiB of blanks and a NUL: seconds for a pattern that goes back (not asked of h11)",
         get(b"X:" + b" " * 60000 + b"\x00"), (400,)),
    Case("header-70-kib", "a header of 70 KiB", get(b"X: " + b"a" * 70000), (431,)),
)  # fmt: skip

CONNECTIONS = (
    Case("connection-names-length", "`Connection: Content-Length` would drop the length on the way",
         post(b"Connection: Content-Length", b"Content-Length: 5", body=b"abcde"), (POSTED_5,)),
    Case("connection-names-coding", "`Connection: Transfer-Encoding`",
         post(b"Connection: Transfer-Encoding", _CHUNKED, body=b"5\r\nabcde\r\n" + LAST), (POSTED_5,)),
    Case("connection-names-host", "`Connection: Host` would drop the host", get(b"Connection: Host"), (GOT,)),
    Case("connection-names-forwarded", "`Connection: X-Forwarded-For` would hide who called",
         get(b"Connection: X-Forwarded-For", b"X-Forwarded-For: 9.9.9.9"), (GOT,)),
    Case("connection-close-then-more", "a request behind one that asked for the end", get() + SMUGGLED,
         (GOT,)),
    Case("http10-then-more", "a request behind one of HTTP/1.0", raw(b"GET %b HTTP/1.0" % FN) + SMUGGLED,
         (GOT,)),
    Case("http10-keep-alive", "HTTP/1.0 with `keep-alive`",
         raw(b"GET %b HTTP/1.0" % FN, b"Host: a", b"Connection: keep-alive") + get(), (GOT, GOT)),
    Case("expect-continue", "`Expect: 100-continue` is answered, not passed on",
         post(b"Expect: 100-continue", b"Content-Length: 5", body=b"abcde"), (POSTED_5,)),
    Case("expect-unknown", "another `Expect` is dropped",
         post(b"Expect: x", b"Content-Length: 5", body=b"abcde"), (POSTED_5,)),
    Case("expect-in-http10", "`Expect` in HTTP/1.0",
         raw(b"POST %b HTTP/1.0" % FN, b"Expect: 100-continue", b"Content-Length: 5", body=b"abcde"),
         (POSTED_5,)),
    Case("upgrade-h2c", "`Upgrade: h2c` with a body, as curl and Java send: the body is still a body",
         post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk",
              b"Content-Length: 5", body=b"abcde"), (POSTED_5,)),
    Case("upgrade-websocket-in-http10", "a WebSocket in HTTP/1.0 is none",
         raw(b"GET %b HTTP/1.0" % FN, b"Connection: upgrade", b"Upgrade: websocket"), (GOT,)),
    Case("upgrade-websocket-post", "a WebSocket by POST is none",
         post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"abcde"),
         (POSTED_5,)),
    Case("te-trailers", "`TE: trailers` is between two neighbours", get(b"TE: trailers", b"Connection: TE"),
         (GOT,)),
    Case("pipelined", "three requests in one write, one with a body",
         raw(b"GET %b1 HTTP/1.1" % FN, b"Host: a")
         + raw(b"POST %b2 HTTP/1.1" % FN, b"Host: a", b"Content-Length: 5", body=b"abcde")
         + get(target=FN + b"3"),
         (Passed(b"GET", b"/1"), Passed(b"POST", b"/2", b"abcde"), Passed(b"GET", b"/3"))),
    Case("pipelined-behind-chunks", "a request behind a chunked body",
         raw(b"POST %b HTTP/1.1" % FN, b"Host: a", _CHUNKED, body=b"5\r\nabcde\r\n" + LAST) + get(),
         (POSTED_5, GOT)),
    Case("pipelined-two-empty-lines", "two empty lines between requests",
         raw(b"GET %b HTTP/1.1" % FN, b"Host: a") + b"\r\n\r\n" + get(), (GOT, 400)),
)  # fmt: skip

GROUPS: tuple[tuple[str, tuple[Case, ...]], ...] = (
    ("How long is the body?", LENGTHS),
    ("Which coding?", CODINGS),
    ("Inside the chunked coding", CHUNKS),
    ("The first line", LINES),
    ("The target", TARGETS),
    ("Headers", HEADERS),
    ("Connections", CONNECTIONS),
)
REQUESTS = tuple(case for _, cases in GROUPS for case in cases)
