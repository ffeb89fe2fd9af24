"""Heads of requests and responses: bytes to values and back. No I/O.

llhttp (through httptools, in its strict mode) reads the grammar; what it lets through and a proxy must
not is refused here: several Hosts, ``Transfer-Encoding`` in HTTP/1.0, methods and targets that are not
ours, codings other than ``chunked``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

Header = tuple[bytes, bytes]

HEAD_LIMIT = 64 * 1024
HEADER_COUNT_LIMIT = 200
# What OpenFaaS's provider lets through to a function (contract 1.1); CONNECT and TRACE are not for us.
METHODS = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"))
# RFC 9110 section 7.6.1 and what proxies of the field add to it; everything here is ours to make anew.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# The names that decide how a request is read.
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))
_RESPONSE_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"content-type"))
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
# What a reason phrase may hold. Source: RFC 9112 section 4.
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class HeadRefused(Exception):
    """A head that is answered with ``status`` and a closed connection."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class RequestHead:
    """One request's head. Header names are lower case, values stripped; hop-by-hop ones still there.

    ``target`` is in origin form. ``content_length`` is None when no body was declared or it is chunked.
    """

    method: bytes
    target: bytes
    is_http11: bool
    headers: list[Header]
    host: bytes
    content_length: int | None
    is_chunked: bool
    keep_alive: bool
    expects_continue: bool
    connection_tokens: frozenset[bytes]


@dataclass(slots=True)
class ResponseHead:
    """One response's head from a replica. Header names are as they were sent."""

    status: int
    reason: bytes
    is_http11: bool
    headers: list[Header]
    content_length: int | None
    is_chunked: bool
    keep_alive: bool
    content_type: bytes
    connection_tokens: frozenset[bytes]

    def has_body(self, method: bytes) -> bool:
        """Whether a body follows. Source: RFC 9112 section 6.3."""
        return not (method == b"HEAD" or self.status in (204, 304) or self.status < 200)

    def get(self, name: bytes) -> bytes:
        """The first value of a lower-case header name; empty when absent."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return b""


class _Sink:
    """What httptools calls while it reads one head."""

    __slots__ = ("complete", "headers", "reason", "url")

    def __init__(self) -> None:
        self.url = b""
        self.reason = b""
        self.headers: list[Header] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class HeadReader:
    """Cuts heads out of what a connection gives, looking at each byte once.

    A head that trickles in costs no more than one that comes whole.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head, its empty line included, and what follows it; None while it is not complete.

        Raises:
            HeadRefused: it can never become one (a bare LF, or longer than `HEAD_LIMIT`).
        """
        held = self._held
        # An empty line after the last message is skipped. Source: RFC 9112 section 2.2
        if held == b"\r" and data.startswith(b"\n"):
            held.clear()
            data = data[1:]
        elif not held and data.startswith(b"\r\n"):
            data = data[2:]
        if not held:
            end = data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
            if end >= 0:
                return data[: end + 4], data[end + 4 :]
        seen = len(held)
        held += data
        end = held.find(b"\r\n\r\n", max(0, seen - 3), HEAD_LIMIT)
        if end >= 0:
            whole = bytes(held)
            held.clear()
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
    line_end = head.find(b"\r\n")
    # llhttp skips repeated spaces, and reads RTSP and ICE too.
    if head.count(b" ", 0, line_end) != 2 or head[line_end - 9 : line_end - 3] != b" HTTP/":
        raise HeadRefused(400, "malformed request: a request line is METHOD SP target SP HTTP/version")
    sink = _Sink()
    parser = httptools.HttpRequestParser(sink)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # our own caller decides about upgrades; the head was read
    except httptools.HttpParserError as error:
        raise HeadRefused(400, f"malformed request: {error}") from None
    if not sink.complete:
        raise HeadRefused(400, "malformed request: the head is not complete")
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise HeadRefused(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
    method = parser.get_method()
    if method not in METHODS:
        raise HeadRefused(405, f"method {method.decode('ascii', 'replace')} is not allowed")
    return _request(method, sink, version == "1.1")


def _request(method: bytes, sink: _Sink, is_http11: bool) -> RequestHead:
    if len(sink.headers) > HEADER_COUNT_LIMIT:
        raise HeadRefused(431, f"more than {HEADER_COUNT_LIMIT} headers")
    headers: list[Header] = []
    hosts: list[bytes] = []
    codings: list[bytes] = []
    length: int | None = None
    tokens: frozenset[bytes] = frozenset()
    expects = False
    for raw_name, raw_value in sink.headers:
        name, value = raw_name.lower(), raw_value.strip(b" \t")
        headers.append((name, value))
        if name not in _FRAMING:
            continue
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            length = _content_length(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            tokens |= _tokens(value)
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
    _check_framing(hosts, codings, length, is_http11=is_http11)
    host = hosts[0] if hosts else b""
    keep_alive = b"close" not in tokens if is_http11 else b"keep-alive" in tokens
    return RequestHead(
        method,
        _origin_form(sink.url, host),
        is_http11,
        headers,
        host,
        length,
        bool(codings),
        keep_alive,
        expects and is_http11,
        tokens,
    )


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


def _content_length(value: bytes) -> int:
    # 18 digits stay below 2**63; isdigit on bytes is ASCII only.
    if not value.isdigit() or len(value) > 18:
        raise HeadRefused(400, "Content-Length is not a decimal number of at most 18 digits")
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
    sink = _Sink()
    parser = httptools.HttpResponseParser(sink)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HeadRefused(502, f"malformed response: {error}") from None
    if not sink.complete:
        raise HeadRefused(502, "malformed response: the head is not complete")
    version = parser.get_http_version()
    if not head.startswith(b"HTTP/1.") or not _REASON.fullmatch(sink.reason):
        raise HeadRefused(502, "malformed response: expected HTTP/1.1 or HTTP/1.0 and a printable reason")
    is_http11 = version == "1.1"
    length: int | None = None
    codings: list[bytes] = []
    content_type = b""
    tokens: frozenset[bytes] = frozenset()
    for raw_name, value in sink.headers:
        name = raw_name.lower()
        if name not in _RESPONSE_FRAMING:
            continue
        if name == b"content-length":
            length = _content_length(value.strip(b" \t"))
        elif name == b"transfer-encoding":
            codings.append(value.strip(b" \t").lower())
        elif name == b"connection":
            tokens |= _tokens(value)
        elif name == b"content-type":
            content_type = value
    if codings and codings != [b"chunked"]:
        raise HeadRefused(502, "the only Transfer-Encoding relayed is a single 'chunked'")
    chunked = bool(codings)
    keep_alive = b"close" not in tokens if is_http11 else b"keep-alive" in tokens
    return ResponseHead(
        parser.get_status_code(),
        sink.reason,
        is_http11,
        sink.headers,
        None if chunked else length,
        chunked,
        keep_alive,
        content_type,
        tokens,
    )
