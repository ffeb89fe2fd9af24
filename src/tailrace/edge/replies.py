"""The edge's own answers: short, complete, worded for whoever can act. Pure."""

from __future__ import annotations

import json

from tailrace.edge.heads import Request
from tailrace.errors import FunctionError, TailraceError
from tailrace.wire.heads import phrase

# What a caller that is refused for want of room may wait before it asks again.
RETRY_AFTER_S = 1


def refusal(status: int, text: str, date: bytes) -> bytes:
    """A whole response that closes the connection."""
    return _reply(status, text, "", date, is_json=False, code="refused", keep_alive=False)


def error_reply(error: TailraceError, request: Request, call_id: str, date: bytes, keep_alive: bool) -> bytes:
    """A whole response for an error met before the function's first byte.

    JSON for a request that accepts ``application/json`` (what the OpenAI SDKs send, so that their
    exception carries the text), else the plain text that OpenFaaS's clients print.
    ``X-OpenFaaS-Internal`` marks it as the platform's; a handler that failed is the function's own answer.
    """
    return _reply(
        error.http_status,
        error.text,
        call_id,
        date,
        is_json=request.accepts_json,
        code=error.code,
        keep_alive=keep_alive,
        is_head=request.head.method == b"HEAD",
        is_internal=error.code != FunctionError.code,
    )


def _reply(
    status: int,
    text: str,
    call_id: str,
    date: bytes,
    *,
    is_json: bool,
    code: str,
    keep_alive: bool,
    is_head: bool = False,
    is_internal: bool = True,
) -> bytes:
    if is_json:
        error = {"code": code, "message": text, "call_id": call_id}
        body, kind = json.dumps({"error": error}).encode() + b"\n", b"application/json"
    else:
        body, kind = text.encode() + b"\n", b"text/plain; charset=utf-8"
    lines = [
        b"HTTP/1.1 %d %b" % (status, phrase(status)),
        date.removesuffix(b"\r\n"),
        b"Content-Type: " + kind,
        b"Content-Length: %d" % len(body),
    ]
    if is_internal:
        lines.append(b"X-OpenFaaS-Internal: tailrace")
    if call_id:
        lines.append(b"X-Call-Id: " + call_id.encode())
    if status in (429, 503):
        lines.append(b"Retry-After: %d" % RETRY_AFTER_S)
    lines.append(b"Connection: keep-alive" if keep_alive else b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if is_head else body)
