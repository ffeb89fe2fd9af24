"""Heads of requests and responses: bytes to values and back. No I/O.

Strict: what two readers could read differently is refused. Bare line ends, folded lines, blanks before a
colon, several Hosts, ``Transfer-Encoding`` in HTTP/1.0 or beside a length, codings other than ``chunked``.

Header lines are looked up whole before they are read: clients send the same lines again and again, and a
hit costs a tenth of reading (docs/decisions/0005). llhttp and h11 are the oracles of the tests.

Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

Header = tuple[bytes, bytes]

HEAD_LIMIT: Final = 64 * 1024
HEADER_COUNT_LIMIT: Final = 200
# A number: bytes are looked for in bytes at many times the cost (docs/decisions/0007).
UNDERSCORE: Final = 0x5F
# What OpenFaaS's provider lets through to a function (contract 1.1); CONNECT and TRACE are not for us.
METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"))
# RFC 9110 section 7.6.1 and what proxies of the field add to it; everything here is ours to make anew.
HOP_BY_HOP: Final = frozenset(
    b"connection proxy-connection keep-alive proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade".split()
)
# The names that decide how a message is read.
_FRAMING: Final = frozenset(b"host content-length transfer-encoding connection expect upgrade".split())
_RESPONSE_FRAMING: Final = frozenset(b"content-length transfer-encoding connection content-type".split())
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A target is printable ASCII without a fragment, which no client has to send.
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,20}) ([!\"$-~]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
# Possessive: what follows matches blanks too, so giving them back one by one would take n**2 steps.
_LINE: Final = re.compile(rb"(%b):[ \t]*+([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
# Lines kept, and how long one may be. Only of names that carry no secret: these outlive their connection.
_KNOWN_LIMIT: Final = 2048
_KNOWN_LENGTH: Final = 256
_KEPT: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language access-control-allow-origin cache-control "
    b"connection content-length content-type date host keep-alive origin pragma sec-fetch-dest "
    b"sec-fetch-mode sec-fetch-site server te transfer-encoding user-agent vary x-accel-buffering "
    b"x-forwarded-host x-forwarded-proto x-tailrace-dialect x-vercel-ai-ui-message-stream".split()
)

# Names that decide how a message is read, that a proxy may not pass on, or that it reads or writes itself.
_NOTED: Final = (
    HOP_BY_HOP
    | _FRAMING
    | _RESPONSE_FRAMING
    | frozenset(
        b"accept cache-control content-encoding date idempotency-key last-event-id x-accel-buffering "
        b"x-call-id x-client-call-id x-forwarded-for x-forwarded-host x-forwarded-proto x-start-time "
        b"x-tailrace-dialect x-tailrace-fault x-tailrace-on-disconnect x-tailrace-record x-timeout "
        b"x-vercel-ai-ui-message-stream".split()
    )
)


class Line:
    """One header line.

    Attributes:
        name: In lower case.
        sent_name: As it was sent.
        value: Without the blanks around it.
        text: The line with the name in lower case.
        is_noted: Whether somebody here looks at it by name, or its name has an underscore; else it is
            passed on as it is.
    """

    __slots__ = ("is_noted", "name", "sent_name", "text", "value")

    def __init__(self, sent_name: bytes, value: bytes) -> None:
        self.sent_name = sent_name
        self.name = sent_name.lower()
        self.value = value
        self.text = b"%b: %b" % (self.name, value)
        self.is_noted = self.name in _NOTED or UNDERSCORE in sent_name


_known: Final[dict[bytes, Line]] = {}


class HeadRefused(Exception):
    """A head that is answered with ``status`` and a closed connection."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class RequestHead:
    """One request's head, hop-by-hop lines still there. ``noted`` are those of ``lines`` that are.

    ``target`` is in origin form. ``content_length`` is None when no body was declared or it is chunked.
    ``wants_websocket`` tells that it asks to become one, in the form that RFC 6455 gives.
    """

    method: bytes
    target: bytes
    is_http11: bool
    lines: list[Line]
    noted: list[Line]
    host: bytes
    content_length: int | None
    is_chunked: bool
    keep_alive: bool
    expects_continue: bool
    connection_tokens: frozenset[bytes]
    wants_websocket: bool = False

    @property
    def headers(self) -> list[Header]:
        """Names in lower case, and values."""
        return [(line.name, line.value) for line in self.lines]

    def get(self, name: bytes) -> bytes:
        """The first value of a lower-case header name; empty when absent."""
        return _value(self.lines, name)


@dataclass(slots=True)
class ResponseHead:
    """One response's head from a replica."""

    status: int
    reason: bytes
    is_http11: bool
    lines: list[Line]
    content_length: int | None
    is_chunked: bool
    keep_alive: bool
    content_type: bytes
    connection_tokens: frozenset[bytes]

    def has_body(self, method: bytes) -> bool:
        """Whether a body follows. Source: RFC 9112 section 6.3."""
        return not (method == b"HEAD" or self.status in (204, 304) or self.status < 200)

    @property
    def headers(self) -> list[Header]:
        """Names as they were sent, and values."""
        return [(line.sent_name, line.value) for line in self.lines]

    def get(self, name: bytes) -> bytes:
        """The first value of a lower-case header name; empty when absent."""
        return _value(self.lines, name)


def _value(lines: list[Line], name: bytes) -> bytes:
    for line in lines:
        if line.name == name:
            return line.value
    return b""


class HeadReader:
    """Cuts heads out of what a connection gives, looking at each byte once.

    A head that trickles in costs no more than one that comes whole. ``held`` is what has come of the next,
    ``has_skipped`` whether an empty line came before it: whoever knows a head without asking resets that.
    """

    __slots__ = ("has_skipped", "held")

    def __init__(self) -> None:
        self.held = bytearray()
        self.has_skipped = False

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head, its empty line included, and what follows it; None while it is not complete.

        Raises:
            HeadRefused: it can never become one (a bare LF, or longer than `HEAD_LIMIT`).
        """
        held = self.held
        # One empty line after the last message is skipped. Source: RFC 9112 section 2.2
        if self.has_skipped:
            pass
        elif held == b"\r" and data.startswith(b"\n"):
            held.clear()
            data, self.has_skipped = data[1:], True
        elif not held and data.startswith(b"\r\n"):
            data, self.has_skipped = data[2:], True
        if not held:
            end = data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
            if end >= 0:
                self.has_skipped = False
                return data[: end + 4], data[end + 4 :]
        seen = len(held)
        held += data
        end = held.find(b"\r\n\r\n", max(0, seen - 3), HEAD_LIMIT)
        if end >= 0:
            whole = bytes(held)
            held.clear()
            self.has_skipped = False
            return whole[: end + 4], whole[end + 4 :]
        if len(held) >= HEAD_LIMIT:
            raise HeadRefused(431, f"the head is longer than {HEAD_LIMIT} bytes")
        at = held.find(b"\n", seen)
        while at >= 0:
            if at == 0 or held[at - 1] != 0x0D:
                raise HeadRefused(400, "a line of the head ends in a bare LF; expected CRLF")
            at = held.find(b"\n", at + 1)
        return None


def parse_request(head: bytes) -> RequestHead:
    """The request whose head is exactly these bytes.

    Raises:
        HeadRefused: 400 malformed or ambiguous, 405 a method that is not served, 431 too many headers,
            505 a version that is not HTTP/1.0 or HTTP/1.1.
    """
    texts = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(texts[0])
    if match is None:
        raise HeadRefused(400, "malformed request: a request line is METHOD SP target SP HTTP/version")
    method, url, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise HeadRefused(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in METHODS:
        raise HeadRefused(405, f"method {method[:40].decode('ascii')} is not allowed")
    lines = _read_lines(texts)
    noted = [line for line in lines if line.is_noted]
    hosts: list[bytes] = []
    codings: list[bytes] = []
    length: int | None = None
    tokens: frozenset[bytes] = frozenset()
    expects = False
    upgrade = b""
    for line in noted:
        name, value = line.name, line.value
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            length = _content_length(value, length)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            tokens |= _tokens(value)
        elif name == b"upgrade":
            upgrade = value.lower()
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
    is_http11 = minor == b"1"
    _check_framing(hosts, codings, length, is_http11=is_http11)
    host = hosts[0] if hosts else b""
    return RequestHead(
        method,
        _origin_form(url, host),
        is_http11,
        lines,
        noted,
        host,
        length,
        bool(codings),
        b"close" not in tokens if is_http11 else b"keep-alive" in tokens,
        expects and is_http11,
        tokens,
        upgrade == b"websocket" and b"upgrade" in tokens and method == b"GET" and is_http11
        and not length and not codings,
    )  # fmt: skip


def _read_lines(texts: list[bytes]) -> list[Line]:
    """The headers of a head cut at its line ends, without its first line and the two empty ones at its end.

    Raises:
        HeadRefused: a line that is none, or too many.
    """
    if len(texts) < 3 or texts[-1] or texts[-2]:
        raise HeadRefused(400, "the head is not complete")
    if len(texts) - 3 > HEADER_COUNT_LIMIT:
        raise HeadRefused(431, f"more than {HEADER_COUNT_LIMIT} headers")
    known = _known
    return [known.get(text) or read_line(text) for text in texts[1:-2]]


def read_line(text: bytes) -> Line:
    """One header line, without its line end.

    Raises:
        HeadRefused: 400, it is none.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        raise HeadRefused(400, "malformed header: a line is Name: value, without blanks before the colon")
    line = Line(match[1], match[2].rstrip(b" \t"))
    if len(text) <= _KNOWN_LENGTH and line.name in _KEPT:
        if len(_known) >= _KNOWN_LIMIT:
            _known.clear()
        _known[text] = line
    return line


def _check_framing(hosts: list[bytes], codings: list[bytes], length: int | None, *, is_http11: bool) -> None:
    if len(hosts) > 1 or (is_http11 and not hosts):
        raise HeadRefused(400, f"expected exactly one Host header, got {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HeadRefused(400, "the Host header is not a host name or address")
    if codings and codings != [b"chunked"]:
        raise HeadRefused(400, "the only Transfer-Encoding accepted is a single 'chunked'")
    if codings and not is_http11:
        raise HeadRefused(400, "Transfer-Encoding is not part of HTTP/1.0")
    if codings and length is not None:
        raise HeadRefused(400, "Transfer-Encoding and Content-Length exclude each other")


def _content_length(value: bytes, before: int | None) -> int:
    # 18 digits stay below 2**63; isdigit on bytes is ASCII only.
    if not value.isdigit() or len(value) > 18:
        raise HeadRefused(400, "Content-Length is not a decimal number of at most 18 digits")
    if before is not None:
        raise HeadRefused(400, "expected at most one Content-Length")
    return int(value)


def _origin_form(url: bytes, host: bytes) -> bytes:
    if url.startswith(b"/"):
        return url
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        raise HeadRefused(400, "the request target is neither a path nor an absolute http URL")
    if host and match[1].lower() != host.lower():
        raise HeadRefused(400, "the request target names another host than the Host header")
    rest = match[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))


def parse_response(head: bytes) -> ResponseHead:
    """The response whose head is exactly these bytes.

    Raises:
        HeadRefused: it is no HTTP/1 response head; the replica that sent it cannot be trusted further.
    """
    texts = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(texts[0])
    if match is None:
        raise HeadRefused(502, "malformed response: expected HTTP/1.1 or HTTP/1.0, a status and a reason")
    status = int(match[2])
    lines = _read_lines(texts)
    length: int | None = None
    codings: list[bytes] = []
    content_type = b""
    tokens: frozenset[bytes] = frozenset()
    for line in lines:
        if not line.is_noted:
            continue
        name, value = line.name, line.value
        if name == b"content-length":
            length = _content_length(value, length)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            tokens |= _tokens(value)
        elif name == b"content-type":
            content_type = value
    is_http11 = match[1] == b"1"
    if codings and (codings != [b"chunked"] or not is_http11 or length is not None):
        raise HeadRefused(502, "the only Transfer-Encoding relayed is a single 'chunked', without a length")
    return ResponseHead(
        status,
        match[3] or b"",
        is_http11,
        lines,
        length,
        bool(codings),
        b"close" not in tokens if is_http11 else b"keep-alive" in tokens,
        content_type,
        tokens,
    )


_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def phrase(status: int) -> bytes:
    """The reason phrase of a status; empty for one without."""
    return _PHRASES.get(status, b"")
