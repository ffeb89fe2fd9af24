"""The heads that are sent on: what a proxy drops, keeps and adds, in each direction. Pure.

A `Request` and a `Reply` are what the edge makes of a head once; connections keep their last one, because
clients and replicas send the same head again and again.
"""

from __future__ import annotations

import re
from typing import Final

from tailrace.durations import parse_duration
from tailrace.edge.routes import route
from tailrace.errors import InvalidRequest, TailraceError
from tailrace.wire.heads import HOP_BY_HOP, UNDERSCORE, Line, RequestHead, ResponseHead, read_line

_CLIENT_CALL_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# What the edge makes anew on every request to a function, whatever the client sent.
_DROPPED: Final = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"x-call-id",
    b"x-client-call-id",
    b"x-start-time",
    b"x-forwarded-for",
}
_DROPPED_FOR_CONTROL: Final = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"x-forwarded-for",
    b"x-forwarded-proto",
}
_DROPPED_FROM_REPLY: Final = HOP_BY_HOP | {b"x-call-id", b"x-start-time"}
# Who calls where nobody did: a schedule.
GATEWAY = b"gateway"
_USUAL_TOKENS: Final = frozenset((b"keep-alive", b"close"))
_UPGRADE: Final = b"connection: Upgrade\r\nupgrade: websocket\r\n"


def is_client_call_id(value: bytes) -> bool:
    """Whether a client may name its call so."""
    return _CLIENT_CALL_ID.fullmatch(value) is not None


class RunWish:
    """What a request says about runs: whether to record it, which one to go on with. Not checked yet.

    Attributes:
        run: The run's id that the queue's worker gives, over the private socket alone; empty otherwise.
        is_recorded: ``X-Tailrace-Record``.
    """

    __slots__ = ("authorization", "is_recorded", "key", "last_event_id", "on_disconnect", "run")

    def __init__(self) -> None:
        self.run = b""
        self.is_recorded = False
        self.on_disconnect = b""
        self.key = b""
        self.last_event_id = b""
        self.authorization = b""


class Request:
    """A request as the edge carries it: whose it is, and the head that is sent on.

    Of ``head`` only what its noted lines say is true of a request that was renewed.

    Attributes:
        label: The function's name in the target; None for the control plane.
        client: Whose address the call is logged with: the peer's, or whom a trusted proxy names. Of a call of
            the queue its caller's; `GATEWAY` when it had none.
        prefix: The head that is sent on, up to the lines that differ from call to call.
        framing: The end of that head.
        client_id: The client's own call id, which the queue's worker repeats; empty when it sent none.
        timeout_s: The client's ``X-Timeout``; 0 when it sent none.
        refusal: Why the request is not taken; None when it is.
        wish: What it says about runs; None when it says nothing.
    """

    __slots__ = (
        "_pieces", "_places", "_texts", "accepts_json", "client", "client_id", "forwarded", "framing",
        "has_body", "head", "label", "prefix", "refusal", "timeout_s", "wants_events", "wish",
    )  # fmt: skip

    def __init__(self, head: RequestHead, *, peer: bytes, is_tls: bool, is_private: bool = False) -> None:
        self.head = head
        self.has_body = head.is_chunked or bool(head.content_length)
        self.wants_events = self.accepts_json = False
        self.client = peer
        self.client_id = b""
        self.timeout_s = 0.0
        self.refusal: TailraceError | None = None
        self.wish: RunWish | None = None
        self.forwarded: list[bytes] = []
        self._texts: list[bytes] = []
        self._pieces: list[bytes] = []
        self._places: list[int] = []
        self._read_noted(head, is_private=is_private)
        if is_private:  # a unix socket has no address; its worker asks for the one whom the edge has named
            peer = b""
            self.client = self.forwarded[-1] if self.forwarded else GATEWAY
        found = route(head.target)
        self.label = found[0] if found else None
        if found is None:
            self.prefix = _to_control(head, is_tls=is_tls)
        else:
            forwarded = self.forwarded
            self._pieces, self._places = _to_function(head, found[1], forwarded, peer=peer, is_tls=is_tls)
            if self.client_id:
                self._pieces.append(b"x-client-call-id: " + self.client_id)
            self._pieces.append(b"")
            self.prefix = b"\r\n".join(self._pieces)
        self.framing = _framing(head, is_tunnel=found is not None and head.wants_websocket)

    def renew(self, last: bytes, head: bytes) -> bool:
        """Become the request of another head that differs only in lines nobody here looks at.

        Most heads of one client differ in a trace id or a request id: then that line alone is read.

        Args:
            last: The head that this request was made of, or became the last time.
        Returns:
            False when it differs in more; then nothing has changed.
        Raises:
            HeadRefused: a line is none.
        """
        texts, before, places = head.split(b"\r\n"), self._texts or last.split(b"\r\n"), self._places
        if len(texts) != len(before) or not places:
            return False
        fresh: list[tuple[int, bytes]] = []
        for number, text in enumerate(texts):
            if text == before[number]:
                continue
            if number >= len(places) or places[number] < 0:
                return False
            line = read_line(text)
            if line.is_noted:
                return False
            fresh.append((places[number], line.text))
        for place, text in fresh:
            self._pieces[place] = text
        self._texts = texts
        self.prefix = b"\r\n".join(self._pieces)
        return True

    def _read_noted(self, head: RequestHead, *, is_private: bool) -> None:
        """What a client may tell the gateway about its call."""
        for line in head.noted:
            name, value = line.name, line.value
            if name == b"accept":
                kinds = value.lower()
                if b"text/event-stream" in kinds and head.method in (b"GET", b"POST"):
                    self.wants_events = True
                if b"application/json" in kinds:
                    self.accepts_json = True
            elif name == b"x-forwarded-for":
                self.forwarded.append(value)
            elif name == b"x-call-id" and is_private:
                self._wish().run = value
            elif name == b"x-client-call-id" and is_private:
                self.client_id = value
            elif name == b"x-call-id":
                if self.client_id or not is_client_call_id(value):
                    self.refusal = InvalidRequest("X-Call-Id is not 1 to 128 of A-Z a-z 0-9 . _ -")
                self.client_id = value
            elif name == b"x-timeout":
                seconds = parse_duration(value.decode("latin-1")) or 0.0
                if seconds <= 0 or self.timeout_s:
                    text = value[:40].decode("latin-1")
                    self.refusal = InvalidRequest(
                        f"X-Timeout: {text} is not one duration such as 10s or 1m30s"
                    )
                self.timeout_s = seconds
            elif name == b"x-tailrace-record":
                self._wish().is_recorded = value.lower() in (b"1", b"true")
            elif name == b"x-tailrace-on-disconnect":
                self._wish().on_disconnect = value
            elif name == b"idempotency-key":
                self._wish().key = value
                self._wish().authorization = head.get(b"authorization")
            elif name == b"last-event-id":
                self._wish().last_event_id = value
        if self.accepts_json:
            self.wants_events = False  # either is welcome, so it is the function's to say which

    def _wish(self) -> RunWish:
        if self.wish is None:
            self.wish = RunWish()
        return self.wish


def _to_function(
    head: RequestHead, target: bytes, forwarded: list[bytes], *, peer: bytes, is_tls: bool
) -> tuple[list[bytes], list[int]]:
    """The lines of the head a replica gets; and for each header that came, where it stands if it may vary.

    Names with an underscore are dropped, as nginx does: WSGI cannot tell ``X_Call_Id`` from ``X-Call-Id``.
    """
    pieces, places = [b"%b %b HTTP/1.1" % (head.method, target)], [-1]
    tokens = head.connection_tokens
    named = frozenset() if tokens <= _USUAL_TOKENS else tokens - {b"host"}
    for line in head.lines:
        if line.name in named or (line.is_noted and not _is_sent(line)):
            places.append(-1)
            continue
        places.append(-1 if line.is_noted or named else len(pieces))
        pieces.append(line.text)
    noted = {line.name for line in head.noted}
    if b"host" not in noted:
        pieces.append(b"host: ")  # an HTTP/1.0 client sent none, HTTP/1.1 must (RFC 9112 section 3.2)
    if b"x-forwarded-host" not in noted or b"x-forwarded-host" in tokens:
        pieces.append(b"x-forwarded-host: " + head.host)
    if b"x-forwarded-proto" not in noted or b"x-forwarded-proto" in tokens:
        pieces.append(b"x-forwarded-proto: https" if is_tls else b"x-forwarded-proto: http")
    hops = [*forwarded, peer] if peer else forwarded
    if hops:
        pieces.append(b"x-forwarded-for: " + b", ".join(hops))
    return pieces, places


def _is_sent(line: Line) -> bool:
    return line.name not in _DROPPED and UNDERSCORE not in line.name


def _to_control(head: RequestHead, *, is_tls: bool) -> bytes:
    """The head the control plane gets: as it came; the client's address is put in when it is sent."""
    lines = [b"%b %b HTTP/1.1" % (head.method, head.target)]
    lines += [line.text for line in head.lines if line.name not in _DROPPED_FOR_CONTROL]
    lines.append(b"x-forwarded-proto: https" if is_tls else b"x-forwarded-proto: http")
    return b"\r\n".join(lines) + b"\r\n"


def _framing(head: RequestHead, *, is_tunnel: bool) -> bytes:
    if is_tunnel:
        return _UPGRADE + b"\r\n"
    if head.is_chunked:
        return b"transfer-encoding: chunked\r\n\r\n"
    if head.content_length is not None:
        return b"content-length: %d\r\n\r\n" % head.content_length
    return b"\r\n"


class Reply:
    """A response head as the edge carries it. ``is_fault`` tells that the handler failed, not answered."""

    __slots__ = ("_prefixes", "has_date", "head", "is_fault")

    def __init__(self, head: ResponseHead) -> None:
        self.head = head
        names = {line.name for line in head.lines if line.is_noted}
        self.has_date = b"date" in names
        self.is_fault = head.status == 500 and b"x-tailrace-fault" in names
        self._prefixes: dict[tuple[bool, bool, bool], bytes] = {}

    def to_client(
        self, kind: tuple[bool, bool, bool], date: bytes, call_lines: bytes, connection: bytes
    ) -> bytes:
        """The head a client gets.

        Args:
            kind: Whether a body follows, whether it is sent in chunks, and whether it is a function's
                answer, whose call id is the edge's to tell.
            date: A Date line, for an answer that has none.
        """
        prefix = self._prefixes.get(kind)
        if prefix is None:
            prefix = self._prefixes[kind] = self._make(*kind)
        if self.has_date:
            date = b""
        return b"%b%b%b%b\r\n" % (prefix, date, call_lines, connection)

    def _make(self, has_body: bool, is_chunked: bool, is_call: bool) -> bytes:
        head = self.head
        lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
        names = set()
        dropped = _DROPPED_FROM_REPLY if is_call else HOP_BY_HOP
        if not head.connection_tokens <= _USUAL_TOKENS:
            dropped |= head.connection_tokens - {b"content-length"}  # what ends the body is not its to take
        without_length = head.is_chunked or head.status == 204
        for line in head.lines:
            if line.name in dropped or (without_length and line.name == b"content-length"):
                continue
            names.add(line.name)
            lines.append(b"%b: %b" % (line.sent_name, line.value))
        if has_body and head.content_length is None and b"x-accel-buffering" not in names:
            lines.append(b"X-Accel-Buffering: no")
        if is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if b"cache-control" not in names and head.content_type.lower().startswith(b"text/event-stream"):
            lines.append(b"Cache-Control: no-cache")
        return b"\r\n".join(lines) + b"\r\n"


def tunnel_head(head: ResponseHead, call: bytes) -> bytes:
    """The 101 a client gets: the function's own headers, and ours that make the connection a tunnel."""
    lines = [b"HTTP/1.1 101 Switching Protocols"]
    for line in head.lines:
        if line.name not in _DROPPED_FROM_REPLY and line.name != b"content-length":
            lines.append(b"%b: %b" % (line.sent_name, line.value))
    return b"\r\n".join(lines) + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + call + b"\r\n"


def early_head(call: bytes, date: bytes, *, is_chunked: bool, keep_alive: bool) -> bytes:
    """The head of an event stream that is sent before the function has answered."""
    coding = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    connection = b"" if keep_alive else b"Connection: close\r\n"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        b"X-Accel-Buffering: no\r\n%b%b%b%b\r\n" % (coding, date, call, connection)
    )
