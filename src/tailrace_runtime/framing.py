"""Responses as HTTP/1.1 writes them: values to bytes, no I/O.

Source: RFC 9112 (sections 4, 6, 7), RFC 9110 (6.4.1: which responses have no body).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

LAST_CHUNK = b"0\r\n\r\n"
# A chunk announced and never sent: a truncated body to every client, and to the edge the sign that the
# handler failed while its replica lives.
FAULT_CHUNK = b"1;tailrace-fault\r\n"
FAULT_BODY = b"the function failed; its logs say why, under this answer's X-Call-Id\n"
_STATUS = re.compile(r"[2-9][0-9]{2}( [\t -~\x80-\xff]*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Controls but the tab are not legal, and the edge would refuse the whole head for one.
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_REASONS = {status.value: status.phrase for status in HTTPStatus}
# The connection is the server's, not the handler's: these are decided here.
_NOT_THE_HANDLERS = frozenset(("connection", "keep-alive", "transfer-encoding", "upgrade"))

Headers = Iterable[tuple[str, str]]


@dataclass(slots=True)
class Framing:
    """How a response's body is delimited, and how much of it is still due.

    ``left`` is the bytes still owed of a sized body, None for a chunked one that goes on. ``is_bodiless``
    responses swallow what the handler gives (HEAD, 1xx, 204, 304). ``is_events`` is what the head declares.
    """

    left: int | None
    is_bodiless: bool
    is_events: bool

    @property
    def is_ahead(self) -> bool:
        """Whether the head goes out before there is any data: so that its client learns of the stream."""
        return self.is_events and self.left is None and not self.is_bodiless

    def frame(self, data: bytes) -> bytes:
        """Data as it goes on the wire; empty for a response without a body, and for no data.

        Raises:
            ValueError: more data than the declared Content-Length, which would begin a second response.
        """
        if self.is_bodiless or not data:
            return b""
        if self.left is None:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if len(data) > self.left:
            raise ValueError(f"the handler gave {len(data) - self.left} bytes more than its Content-Length")
        self.left -= len(data)
        return data

    def finish(self) -> bytes:
        """What ends the body.

        Raises:
            ValueError: a sized body is short, so it must not look complete.
        """
        if self.is_bodiless:
            return b""
        if self.left is None:
            self.left = 0
            return LAST_CHUNK
        if self.left:
            raise ValueError(f"the handler gave {self.left} bytes less than its Content-Length")
        return b""

    def fail(self) -> bytes:
        """What tells that the body ends here because the handler failed: empty where nothing can."""
        if self.is_bodiless or self.left is not None:
            return b""
        self.left = 0
        return FAULT_CHUNK


def status_line(code: int) -> str:
    """A status as WSGI writes it: ``200 OK``."""
    return f"{code} {_REASONS.get(code, 'Unknown')}"


def response_head(line: str, headers: Headers, *, method: str, length: int | None) -> tuple[bytes, Framing]:
    """The head's bytes and how the body goes on from there.

    Args:
        line: The status, as ``200 OK``.
        length: Bytes of the whole body where they are known and no header says so; None: chunked.
    Raises:
        ValueError: a status, name or value that is not legal in a head (line ends would split it).
    """
    if not _STATUS.fullmatch(line):
        raise ValueError(f"status {line!r} is not one a handler can answer")
    code = int(line[:3])
    lines = [f"HTTP/1.1 {line}\r\n"]
    is_events = False
    for name, value in headers:
        lowered = name.lower()
        if lowered in _NOT_THE_HANDLERS:
            continue
        if lowered == "content-length":
            length = _declared(value)
            continue
        check_header(name, value)
        if lowered == "content-type":
            is_events = value.partition(";")[0].strip(" \t").lower() == "text/event-stream"
        lines.append(f"{name}: {value}\r\n")
    is_bodiless = method == "HEAD" or code in (204, 304)
    if length is not None and code not in (204, 304):
        lines.append(f"Content-Length: {length}\r\n")
    elif not is_bodiless:
        lines.append("Transfer-Encoding: chunked\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1"), Framing(length, is_bodiless, is_events)


def fault_reply(*, method: str) -> bytes:
    """The whole response of a call whose handler failed before its first byte."""
    head, framing = response_head(
        status_line(500),
        [("Content-Type", "text/plain; charset=utf-8"), ("X-Tailrace-Fault", "function")],
        method=method,
        length=len(FAULT_BODY),
    )
    return head + framing.frame(FAULT_BODY)


def health_reply(*, method: str) -> bytes:
    """The whole answer to who asks whether this replica serves."""
    head, framing = response_head(status_line(200), [("Content-Type", "text/plain")], method=method, length=2)
    return head + framing.frame(b"OK")


def _declared(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"Content-Length {value!r} is not a number of bytes")
    return int(value)


def check_header(name: str, value: str) -> None:
    """Raises ValueError: the header is not legal in a head."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"header {name!r}: {value!r} is not legal in a head")
