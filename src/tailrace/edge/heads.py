"""The head that is sent on: what a proxy drops, keeps and adds, in each direction. Pure."""

from __future__ import annotations

import re

from tailrace.wire.heads import HOP_BY_HOP, RequestHead, ResponseHead

_CLIENT_CALL_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# What the edge makes anew on every request to a function, whatever the client sent.
_DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"x-call-id",
    b"x-client-call-id",
    b"x-start-time",
    b"x-forwarded-for",
}
_DROPPED_FOR_CONTROL = HOP_BY_HOP | {b"content-length", b"expect", b"x-forwarded-for"}
_DROPPED_FROM_REPLY = HOP_BY_HOP | {b"x-call-id", b"x-start-time"}
_USUAL_TOKENS = frozenset((b"keep-alive", b"close"))


def client_call_id(head: RequestHead) -> bytes | None:
    """The client's own call id; empty when it sent none, None when it is not a legal one."""
    found = [value for name, value in head.headers if name == b"x-call-id"]
    if not found:
        return b""
    return found[0] if len(found) == 1 and _CLIENT_CALL_ID.fullmatch(found[0]) else None


def request_to_function(
    head: RequestHead, target: bytes, *, peer: bytes, call_id: bytes, start_ns: int, client_id: bytes
) -> bytes:
    """The request a replica gets.

    Names with an underscore are dropped, as nginx does: WSGI cannot tell ``X_Call_Id`` from ``X-Call-Id``.
    """
    tokens = head.connection_tokens
    dropped = _DROPPED if tokens <= _USUAL_TOKENS else _DROPPED | tokens - {b"host"}
    lines = [b"%b %b HTTP/1.1" % (head.method, target)]
    forwarded: list[bytes] = []
    host = proto = True
    for name, value in head.headers:
        if name in dropped or b"_" in name:
            if name == b"x-forwarded-for":
                forwarded.append(value)
            continue
        lines.append(b"%b: %b" % (name, value))
        if name == b"x-forwarded-host":
            host = False
        elif name == b"x-forwarded-proto":
            proto = False
    if host:
        lines.append(b"x-forwarded-host: " + head.host)
    if proto:
        lines.append(b"x-forwarded-proto: http")
    if client_id:
        lines.append(b"x-client-call-id: " + client_id)
    forwarded.append(peer)
    lines.append(
        b"x-forwarded-for: %b\r\nx-call-id: %b\r\nx-start-time: %d"
        % (b", ".join(forwarded), call_id, start_ns)
    )
    lines.append(_request_framing(head))
    return b"\r\n".join(lines)


def request_to_control(head: RequestHead, *, peer: bytes) -> bytes:
    """The request the control plane gets: as it came, with the peer's address put in by us."""
    lines = [b"%b %b HTTP/1.1" % (head.method, head.target)]
    lines += [b"%b: %b" % (name, value) for name, value in head.headers if name not in _DROPPED_FOR_CONTROL]
    lines += [b"x-forwarded-for: " + peer, _request_framing(head)]
    return b"\r\n".join(lines)


def _request_framing(head: RequestHead) -> bytes:
    if head.is_chunked:
        return b"transfer-encoding: chunked\r\n\r\n"
    if head.content_length is not None:
        return b"content-length: %d\r\n\r\n" % head.content_length
    return b"\r\n"


def response_to_client(
    head: ResponseHead, *, has_body: bool, to_http11: bool, keep_alive: bool, call: bytes, date: bytes
) -> bytes:
    """The response head a client gets.

    Args:
        call: The edge's own lines for a function's answer, or empty.
        date: A Date line, for an answer that has none.
    """
    lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    names = set()
    dropped = _DROPPED_FROM_REPLY if call else HOP_BY_HOP
    if not head.connection_tokens <= _USUAL_TOKENS:
        dropped |= head.connection_tokens
    without_length = head.is_chunked or head.status == 204
    for name, value in head.headers:
        lower = name.lower()
        if lower in dropped or (without_length and lower == b"content-length"):
            continue
        names.add(lower)
        lines.append(b"%b: %b" % (name, value))
    is_unsized = has_body and head.content_length is None
    if is_unsized:
        if b"x-accel-buffering" not in names:
            lines.append(b"X-Accel-Buffering: no")
        if to_http11:
            lines.append(b"Transfer-Encoding: chunked")
    if b"cache-control" not in names and head.content_type.lower().startswith(b"text/event-stream"):
        lines.append(b"Cache-Control: no-cache")
    if b"date" not in names:
        lines.append(date)
    if call:
        lines.append(call)
    if not keep_alive:
        lines.append(b"Connection: close")
    elif not to_http11:
        lines.append(b"Connection: keep-alive")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
