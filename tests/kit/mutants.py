"""Messages as an attacker would write them: legal ones, bent where parsers are known to disagree.

Everything is drawn from a `random.Random`, so that hypothesis (``st.randoms``) and the long run
(`tests.kit.soak`) share one generator, and nothing here knows what Tailrace accepts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

EOLS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"", b"\x0b", b"\x0c", b"\x85", b" \r\n", b"\x00\r\n")
BLANKS = (b"", b"  ", b"\t", b"\x0b", b"\x0c", b"\xa0", b"\r", b"\x00", b" \t ", b"\xe3\x80\x80", b"\x1f")
CONTROLS = (b"\x00", b"\x01", b"\x08", b"\t", b"\n", b"\r", b"\x0b", b"\x1b", b"\x7f", b"\x80", b"\xff")
NUMBERS = (
    b"5", b"05", b"+5", b"-5", b"0x5", b"5.0", b"5e0", b"5_0", b" 5", b"5 5", b"5,5", b"5, 6", b"0", b"00",
    b"", b",", b"5;", b"\xef\xbc\x95", b"\xb2", b"\xd9\xa5", b"9" * 18, b"1" + b"0" * 18,
    b"18446744073709551621", b"4294967301", b"0" * 30 + b"5", b"\"5\"", b"5\x00", b"5\x0b",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b"chunked ", b"\tchunked", b"chunked,", b",chunked",
    b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"identity, chunked", b"xchunked",
    b"chunkedx", b"chunked;q=1", b"\"chunked\"", b"chun ked", b"\x0bchunked", b"chunked\x00", b"",
    b"c\xe1\xb8\xa9unked", b"trailers", b"deflate",
)  # fmt: skip
HOSTS = (
    b"a", b"A", b"a:80", b"a:", b"a:99999", b"a:999999", b"[::1]", b"[::1]:80", b"[::1", b"", b" ", b"a b",
    b"a,b", b"a/b", b"a@b", b"a\\b", b"a#b", b"a?b", b"b\xc3\xbccher", b"127.0.0.1", b"%61", b"a\x00", b"a;b",
)  # fmt: skip
TOKENS = (
    b"close", b"keep-alive", b"Upgrade", b"Content-Length", b"transfer-encoding", b"Host", b"X-Odd", b"",
    b"close, close", b"keep-alive, close", b"TE", b"Upgrade, HTTP2-Settings", b"x-call-id", b"\"close\"",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/1.", b"HTTP/1", b"",
    b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b"HTTP/1.10", b"HTTP/ 1.1", b"HTTP/1,1", b"RTSP/1.0", b"ICE/1.0",
    b"HTTP/1.\xb9", b"HTTPS/1.1", b"HTTP/1.1x", b"HTTP/-1.1", b"HTTP/\xef\xbc\x91.1",
)  # fmt: skip
METHODS = (
    b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"Get",
    b"PRI", b"SOURCE", b"M-SEARCH", b"G\x00T", b"G ET", b"", b"\r\nGET", b"GET\x00", b"(", b"G\xc3\x89T",
    b"Q" * 99,
)  # fmt: skip
TARGETS = (
    b"/", b"/a", b"/a?b=c", b"//a", b"/a/../b", b"/%2e%2e/b", b"/a%00", b"/a\\..\\b", b"/a#b", b"/a%2fb",
    b"*", b"a", b"a:80", b"?", b"", b"http://a/x", b"HTTP://A/x", b"http://a", b"http://a?x", b"http://b/",
    b"http://", b"http:///x", b"https://a/x", b"http://a:80/x", b"http://u@a/", b"http:/a", b"ftp://a/",
    b"/a b", b"/a\tb", b"/\xc3\xa9", b"/\xff", b"/\x7f", b"/;a", b"/a\"<>^`{|}", b"/%", b"/%zz",
    b"http://[::1]/x",
)  # fmt: skip
NAMES = (
    b"Content-Length", b"content-length", b"Content_Length", b"Content-Length ", b" Content-Length",
    b"CONTENT-LENGTH", b"Transfer-Encoding", b"transfer-encoding", b"Transfer_Encoding",
    b"Transfer-Encoding\t", b"Transfer-Encoding\x00", b"Transfer\xadEncoding", b"Host", b"host", b"HOST",
    b"Connection", b"connection", b"Expect", b"Upgrade", b"TE", b"Trailer", b"X-Call-Id", b"X-Forwarded-For",
    b"X_Call_Id", b"X-Odd", b"", b"X:Y", b"X(", b"X\x7f", b"X\xc3\xa9", b"Proxy-Connection", b"Keep-Alive",
    b"Content-Encoding", b"Accept", b"X!#$%&'*+-.^_`|~9", b"\x00", b"Content-Type",
)  # fmt: skip
VALUES = (
    b"", b"1", b"a, b", b"\"q;q\"", b"\xc3\xa9", b"\xff", b"a\tb", b"a  b", b"100-continue", b"100-Continue",
    b"100-continue, x", b"h2c", b"websocket", b"text/event-stream", b"application/json", b"chunked", b"0",
    b"a" * 300,
)  # fmt: skip
SIZES = (
    b"0", b"00", b"000", b"1", b"a", b"A", b"0a", b"5 ", b" 5", b"\t5", b"+5", b"-5", b"0x5", b"5g", b"",
    b"5_0", b"f" * 15, b"f" * 16, b"f" * 17, b"1" + b"0" * 16, b"0" * 16 + b"5", b"0" * 15 + b"5",
    b"\xef\xbc\x95", b"5\x00",
)  # fmt: skip
EXTENSIONS = (
    b"", b"", b"", b";", b";a", b";a=b", b";a=\"b\"", b" ;a", b"\t;a", b";a\n", b";a\r", b";\x00", b";\x7f",
    b";\xff", b"; a = b ", b";" + b"a" * 240, b";" + b"a" * 253, b";" + b"a" * 254, b";" + b"a" * 260, b" ",
    b"\t", b" x",
)  # fmt: skip
TRAILERS = (
    b"", b"", b"", b"A: b\r\n", b"A:\r\n", b": b\r\n", b"A\r\n", b"A : b\r\n", b" A: b\r\n", b"A: b\n",
    b"A: \x00\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Host: b\r\n", b"A: " + b"b" * 252 + b"\r\n",
    b"A: " + b"b" * 253 + b"\r\n", b"A: " + b"b" * 254 + b"\r\n", b"A: b\r\n c\r\n",
)  # fmt: skip


@dataclass
class Draft:
    """A message in its parts, every separator its own part, so that each can be bent alone."""

    first: list[bytes]
    headers: list[list[bytes]]
    end: bytes = b"\r\n"
    body: bytes = b""
    before: bytes = b""
    bends: list[str] = field(default_factory=list)

    def render(self) -> bytes:
        """The message's bytes."""
        lines = b"".join(b"".join(parts) for parts in self.headers)
        return self.before + b"".join(self.first) + lines + self.end + self.body

    def add(self, name: bytes, value: bytes, at: int = 1_000_000) -> None:
        """Put a header line in."""
        self.headers.insert(at, [name, b":", b" ", value, b"\r\n"])


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def blob(rng: random.Random, longest: int = 40) -> bytes:
    """A body: sometimes what could be taken for something else."""
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(longest)))
    if kind == 1:
        return rng.choice((b"\r\n", b"0\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"\n", b"5\r\n"))
    return b"b" * rng.randrange(longest)


def chunked(rng: random.Random) -> bytes:
    """A chunked body, legal."""
    pieces = [blob(rng) for _ in range(rng.randrange(4))]
    return b"".join(chunk(piece) for piece in pieces if piece) + b"0\r\n\r\n"


def bent_chunked(rng: random.Random) -> bytes:
    """A chunked body with a bent size, extension, line end, length or trailer, and what stands after it."""
    coded = b""
    for _ in range(rng.randrange(4)):
        data = blob(rng, 20) or b"x"
        size = b"%x" % len(data) if rng.randrange(3) else rng.choice(SIZES)
        eol = b"\r\n" if rng.randrange(6) else rng.choice(EOLS)
        after = b"\r\n" if rng.randrange(6) else rng.choice(EOLS)
        coded += size + rng.choice(EXTENSIONS) + eol + data + after
    if rng.randrange(8):
        last = b"0" if rng.randrange(5) else rng.choice((b"00", b"0 ", b"-0", b"0x0", b"0" * 16, b"0" * 17))
        coded += last + rng.choice(EXTENSIONS) + (b"\r\n" if rng.randrange(8) else rng.choice(EOLS))
        coded += b"".join(rng.choice(TRAILERS) for _ in range(rng.choice((0, 0, 1, 3, 60))))
        coded += b"\r\n" if rng.randrange(6) else rng.choice(EOLS)
    return coded + (blob(rng) if not rng.randrange(3) else b"")


def plain_request(rng: random.Random, path: bytes = b"/") -> Draft:
    """A legal request, with or without a body."""
    method = rng.choice((b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"))
    version = b"HTTP/1.0" if not rng.randrange(8) else b"HTTP/1.1"
    target = path + rng.choice((b"", b"x", b"?q=1", b"a/b?c"))
    draft = Draft([method, b" ", target, b" ", version, b"\r\n"], [])
    draft.add(b"Host", b"a")
    for _ in range(rng.randrange(4)):
        draft.add(rng.choice((b"Accept", b"X-Odd", b"User-Agent", b"Cookie")), rng.choice(VALUES))
    if method in (b"POST", b"PUT", b"PATCH") or not rng.randrange(6):
        if version == b"HTTP/1.1" and rng.randrange(2):
            draft.add(b"Transfer-Encoding", b"chunked")
            draft.body = chunked(rng)
        else:
            draft.body = blob(rng)
            draft.add(b"Content-Length", b"%d" % len(draft.body))
    return draft


def plain_reply(rng: random.Random) -> Draft:
    """A legal response to GET."""
    status = rng.choice((b"200", b"200", b"200", b"204", b"304", b"404", b"500", b"103"))
    draft = Draft([b"HTTP/1.1", b" ", status, b" ", b"OK", b"\r\n"], [])
    draft.add(b"Content-Type", rng.choice((b"text/plain", b"text/event-stream", b"application/x-ndjson")))
    kind = rng.randrange(3)
    if kind == 0:
        draft.add(b"Transfer-Encoding", b"chunked")
        draft.body = chunked(rng)
    elif kind == 1:
        draft.body = blob(rng)
        draft.add(b"Content-Length", b"%d" % len(draft.body))
    else:
        draft.body = blob(rng)
    return draft


# The bends. Each takes a draft and changes one thing.


def bend_eol(rng: random.Random, draft: Draft) -> None:
    """Another line end."""
    at = rng.randrange(len(draft.headers) + 2)
    if at == 0:
        draft.first[-1] = rng.choice(EOLS)
    elif at > len(draft.headers):
        draft.end = rng.choice(EOLS)
    else:
        draft.headers[at - 1][-1] = rng.choice(EOLS)


def bend_blank(rng: random.Random, draft: Draft) -> None:
    """Another blank: in the first line, before or behind a colon, at a line's end."""
    if not draft.headers or not rng.randrange(3):
        draft.first[rng.choice((1, 3))] = rng.choice(BLANKS)
        return
    header = rng.choice(draft.headers)
    at = rng.randrange(5)
    header[at] = (header[at] + rng.choice(BLANKS)) if rng.randrange(2) else (rng.choice(BLANKS) + header[at])


def bend_framing(rng: random.Random, draft: Draft) -> None:
    """One more header that says how the message is framed, before or behind what is there."""
    name = rng.choice(NAMES[:12])
    value = rng.choice(NUMBERS if b"ength" in name.lower() else CODINGS)
    draft.add(name, value, rng.randrange(len(draft.headers) + 1))


def bend_double(rng: random.Random, draft: Draft) -> None:
    """A header twice."""
    if draft.headers:
        again = list(rng.choice(draft.headers))
        draft.headers.insert(rng.randrange(len(draft.headers) + 1), again)


def bend_value(rng: random.Random, draft: Draft) -> None:
    """Another value for a header that is there, of the kind it takes."""
    if not draft.headers:
        return
    header = rng.choice(draft.headers)
    choices = {
        b"host": HOSTS,
        b"content-length": NUMBERS,
        b"transfer-encoding": CODINGS,
        b"connection": TOKENS,
    }
    header[3] = rng.choice(choices.get(header[0].strip().lower(), VALUES))


def bend_fold(rng: random.Random, draft: Draft) -> None:
    """A value that goes on in the next line, or a line that begins with a blank."""
    if draft.headers:
        header = rng.choice(draft.headers)
        cut = rng.randrange(len(header[3]) + 1)
        eol = rng.choice((b"\r\n ", b"\r\n\t", b"\n ", b"\r ", b"\r\n \r\n "))
        header[3] = header[3][:cut] + eol + header[3][cut:]


def bend_control(rng: random.Random, draft: Draft) -> None:
    """A control or high byte somewhere in the first line or a header."""
    parts = rng.choice([draft.first, *draft.headers])
    at = rng.randrange(len(parts))
    cut = rng.randrange(len(parts[at]) + 1)
    parts[at] = parts[at][:cut] + rng.choice(CONTROLS) + parts[at][cut:]


def bend_new(rng: random.Random, draft: Draft) -> None:
    """A header that nobody asked for."""
    name = rng.choice(NAMES)
    choices = {b"host": HOSTS, b"connection": TOKENS, b"te": CODINGS, b"expect": VALUES[8:11]}
    draft.add(name, rng.choice(choices.get(name.lower(), VALUES)), rng.randrange(len(draft.headers) + 1))


def bend_drop(rng: random.Random, draft: Draft) -> None:
    """A header less."""
    if draft.headers:
        draft.headers.pop(rng.randrange(len(draft.headers)))


def bend_long(rng: random.Random, draft: Draft) -> None:
    """Many or long parts: a run of one byte, or hundreds of lines."""
    run = rng.choice((b" ", b"\t", b"a", b",", b":", b"\xff", b";", b"0")) * rng.choice((200, 5000, 70000))
    kind = rng.randrange(5)
    if kind == 0:
        draft.headers.extend([[b"X", b":", b" ", b"y", b"\r\n"]] * rng.choice((150, 199, 200, 201, 400)))
    elif kind == 1:
        draft.first[2] += run
    elif kind == 2:
        draft.add(b"X" + run, b"y")
    else:
        draft.add(b"X", run + rng.choice((b"", b"y", b"\x00", b"\r", b"\n")))


def bend_body(rng: random.Random, draft: Draft) -> None:
    """A body cut short, too long, or bent in its coding."""
    kind = rng.randrange(4)
    if kind == 0:
        draft.body = draft.body[: rng.randrange(len(draft.body) + 1)]
    elif kind == 1:
        draft.body += blob(rng)
    else:
        draft.body = bent_chunked(rng)


def bend_before(rng: random.Random, draft: Draft) -> None:
    """Something before the first line."""
    draft.before += rng.choice(
        (b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\x00", b"\xef\xbb\xbf", b"0\r\n\r\n")
    )


def bend_request_line(rng: random.Random, draft: Draft) -> None:
    """Another method, target or version."""
    at, choices = rng.choice(((0, METHODS), (2, TARGETS), (2, TARGETS), (4, VERSIONS)))
    draft.first[at] = rng.choice(choices)


def bend_status_line(rng: random.Random, draft: Draft) -> None:
    """Another version, status or reason."""
    statuses = (
        b"200",
        b"000",
        b"099",
        b"100",
        b"101",
        b"103",
        b"204",
        b"304",
        b"999",
        b"20",
        b"2000",
        b"-20",
        b"2 0",
    )
    reasons = (b"", b"O K", b"\xc3\xa9", b"O\x00K", b"O\rK", b"O\x7fK", b"a" * 5000)
    at, choices = rng.choice(((0, VERSIONS), (2, statuses), (4, reasons)))
    draft.first[at] = rng.choice(choices)


Bend = Callable[[random.Random, Draft], None]
BENDS: tuple[Bend, ...] = (
    bend_eol, bend_blank, bend_framing, bend_framing, bend_double, bend_value, bend_value, bend_fold,
    bend_control, bend_new, bend_new, bend_drop, bend_body, bend_before,
)  # fmt: skip


def bend(rng: random.Random, draft: Draft, line: Bend) -> Draft:
    """The draft, bent not at all up to four times; rarely with something very long."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        chosen = line if not rng.randrange(5) else rng.choice(BENDS)
        chosen(rng, draft)
    if not rng.randrange(50):
        bend_long(rng, draft)
    return draft


def scratched(rng: random.Random, data: bytes) -> bytes:
    """The bytes with a few changed, lost, doubled or put in anywhere."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            found[at:at] = rng.choice((*EOLS, *BLANKS, *CONTROLS, b":", b";", b"0"))
        elif kind == 2:
            del found[at : at + rng.choice((1, 1, 2, 8))]
        elif kind == 3:
            found[at:at] = found[at : at + rng.randrange(20)]
        elif at:
            found[at - 1] ^= 1 << rng.randrange(8)
    return bytes(found)


def request(rng: random.Random) -> bytes:
    """One bent request."""
    made = bend(rng, plain_request(rng), bend_request_line).render()
    return scratched(rng, made) if not rng.randrange(10) else made


def reply(rng: random.Random) -> bytes:
    """One bent response."""
    made = bend(rng, plain_reply(rng), bend_status_line).render()
    return scratched(rng, made) if not rng.randrange(10) else made


def conversation(rng: random.Random) -> bytes:
    """What one client sends on one connection: requests to ``/function/fn/``, the last ones bent."""
    sent = b""
    for at in range(rng.choice((1, 1, 2, 3, 5))):
        path = (
            b"/function/fn/%d/" % at
            if rng.randrange(12)
            else rng.choice((b"/", b"/function/no/", b"/function/"))
        )
        draft = plain_request(rng, path)
        one = (bend(rng, draft, bend_request_line) if rng.randrange(3) else draft).render()
        sent += rng.choice((b"", b"", b"", b"\r\n")).join([one] * rng.choice((1, 1, 1, 2, 3)))
    return scratched(rng, sent) if not rng.randrange(12) else sent


EVENT_PIECES = (
    b"data: a", b"data:", b"data", b"data: {\"object\":\"chat.completion.chunk\"}", b": pong", b":",
    b"event: error", b"event: end", b"id: 7", b"id: \x00", b"retry: 5", b"retry: x", b"data: [DONE]",
    b" data: a", b"\xef\xbb\xbf", b"\xff", b"data: \xc3", b"datax: 1", b"data: " + b"x" * 50, b"{\"a\":1}",
    b"", b"",
)  # fmt: skip
EVENT_EOLS = (
    b"\n",
    b"\n",
    b"\n",
    b"\n\n",
    b"\n\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\r\r",
    b"\n\r\n",
    b"\n\r",
    b"\r\n\r",
    b"",
)


def events(rng: random.Random) -> bytes:
    """An event stream or lines of JSON, with every mixture of line ends."""
    pieces = (rng.choice(EVENT_PIECES) + rng.choice(EVENT_EOLS) for _ in range(rng.randrange(12)))
    made = b"".join(pieces)
    return scratched(rng, made) if not rng.randrange(10) else made
