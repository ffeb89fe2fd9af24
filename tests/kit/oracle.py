"""What others read in the same bytes: h11, llhttp, and readings written from the specifications.

The references here are slow, whole-buffer and independent of `tailrace.wire`: they are what a reader of
the RFC would write first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11
import httptools

# Above every message that the generators make.
_ROOM = 1 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a server reads it. Names are lower case; ``body`` None: it is not complete."""

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    rest: bytes
    has_bad_body: bool = False

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow. Source: RFC 9112 section 9.3."""
        tokens = {token.strip().lower() for value in self.all(b"connection") for token in value.split(b",")}
        return b"close" not in tokens if self.version == b"1.1" else b"keep-alive" in tokens

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header, in order."""
        return [value for key, value in self.headers if key == name]


def h11_request(data: bytes) -> Asked | str | None:
    """The first request that h11 reads; the words of its refusal; None: it waits for more of the head."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=_ROOM)
    server.receive_data(data)
    try:
        event = server.next_event()
    except h11.RemoteProtocolError as error:
        return str(error)
    if not isinstance(event, h11.Request):
        return None
    body, is_bad = _body(server)
    headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
    rest = server.trailing_data[0] if body is not None else b""
    return Asked(
        bytes(event.method), bytes(event.target), bytes(event.http_version), headers, body, rest, is_bad
    )


def _body(connection: h11.Connection) -> tuple[bytes | None, bool]:
    """A message's body, None when it is not complete; and whether that is because its framing is violated."""
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None, True
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, False
        else:
            return None, False


@dataclass(frozen=True, slots=True)
class Answered:
    """One response as a client reads it that asked with ``method``; ``body`` None: it is not complete."""

    status: int
    reason: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    rest: bytes


def h11_reply(data: bytes, method: bytes = b"GET", *, is_over: bool = False) -> Answered | str | None:
    """The first final response that h11 reads; the words of its refusal; None: it waits for the head.

    Args:
        is_over: The connection ends after data, which also ends a body without a length.
    """
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ROOM)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if is_over:
        client.receive_data(b"")
    try:
        event = client.next_event()
        while isinstance(event, h11.InformationalResponse):
            event = client.next_event()
    except h11.RemoteProtocolError as error:
        return str(error)
    if not isinstance(event, h11.Response):
        return None
    body, _ = _body(client)
    headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
    rest = client.trailing_data[0] if body is not None else b""
    return Answered(event.status_code, bytes(event.reason), bytes(event.http_version), headers, body, rest)


def h11_part(data: bytes) -> bytes:
    """As much of a response's body as h11 reads before it breaks off."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ROOM)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    body = b""
    try:
        while not isinstance(event := client.next_event(), type(h11.NEED_DATA) | h11.EndOfMessage):
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        pass
    return body


def h11_interim(data: bytes) -> bool:
    """Whether h11 reads these bytes as the head of an interim response."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ROOM)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    try:
        return isinstance(client.next_event(), h11.InformationalResponse)
    except h11.RemoteProtocolError:
        return False


class _Heard:
    """What llhttp calls while it reads."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.is_complete = True


@dataclass(frozen=True, slots=True)
class Heard:
    """A head as llhttp reads it in its strict mode. ``first`` is the target, or the status."""

    first: bytes
    method: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]


def llhttp_request(head: bytes) -> Heard | str:
    """A request's head as llhttp reads it, or the words of its refusal."""
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard)
    refused = _feed(parser, head)
    if refused or not heard.is_complete:
        return refused or "not complete"
    return Heard(heard.url, parser.get_method(), parser.get_http_version(), tuple(heard.headers))


def llhttp_reply(head: bytes) -> Heard | str:
    """A response's head as llhttp reads it, or the words of its refusal."""
    heard = _Heard()
    parser = httptools.HttpResponseParser(heard)
    refused = _feed(parser, head)
    if refused or not heard.is_complete:
        return refused or "not complete"
    status = b"%d" % parser.get_status_code()
    return Heard(status, b"", parser.get_http_version(), tuple(heard.headers))


def _feed(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, head: bytes) -> str:
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return ""
    except httptools.HttpParserError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A chunked body as the specification reads it: its content, and what stands behind its end."""

    body: bytes
    surplus: bytes


_TRAILER = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}(;[\t\x20-\x7e\x80-\xff]*)?")


def dechunked(data: bytes, *, line_limit: int = 256, trailer_limit: int = 8192) -> Decoded | str | None:
    """A whole chunked body; why it is none; None: more is needed. Source: RFC 9112 section 7.1."""
    body, at, trailer_bytes = b"", 0, 0
    in_trailers = False
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return "long line" if len(data.removesuffix(b"\r")) - at > line_limit else None
        line, at = data[at : end + 1], end + 1
        if not line.endswith(b"\r\n") or len(line) - 2 > line_limit:
            return "line"
        line = line[:-2]
        if in_trailers and not line:
            return Decoded(body, data[at:])
        if in_trailers:
            trailer_bytes += len(line)
            if not _TRAILER.fullmatch(line) or trailer_bytes > trailer_limit:
                return "trailer"
            continue
        if not _SIZE.fullmatch(line):
            return "size"
        size = int(line.partition(b";")[0], 16)
        if not size:
            in_trailers = True
            continue
        piece, end_of_chunk = data[at : at + size], data[at + size : at + size + 2]
        body += piece
        if not b"\r\n".startswith(end_of_chunk):
            return "end of chunk"
        if len(end_of_chunk) < 2:
            return None
        at += size + 2


def h11_dechunked(data: bytes) -> Decoded | str | None:
    """The same as h11 reads it."""
    asked = h11_request(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(asked, Asked)
    if asked.has_bad_body:
        return "violated"
    return None if asked.body is None else Decoded(asked.body, asked.rest)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: what a browser would dispatch."""

    data: str
    event: str
    last_id: str


def browser_events(stream: bytes) -> list[Event]:
    """The events of a whole stream. Source: WHATWG HTML section 9.2.6, followed to the letter."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")[:-1]  # what no line end follows is no line yet
    found: list[Event] = []
    data, kind, last_id, pending_id = "", "", "", ""
    for line in lines:
        if line == "":
            last_id = pending_id
            if data:
                found.append(Event(data.removesuffix("\n"), kind or "message", last_id))
            data, kind = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            pending_id = value
    return found
