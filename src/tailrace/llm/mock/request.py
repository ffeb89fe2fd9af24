"""HTTP/1.1 requests out of bytes, for the mock alone: no sockets, no clocks, everything bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_LIMIT_BYTES = 64 * 1024
# Long chats with pictures in base64 reach a few MiB.
BODY_LIMIT_BYTES = 16 * 1024 * 1024

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class BadRequest(Exception):
    """Bytes that are no request we take. The connection cannot be used afterwards."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request; header names are lower case, `target` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    http_11: bool


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    http_11: bool
    # None: the body comes in chunks.
    length: int | None


class RequestReader:
    """Feed it what the socket gave; take requests from `next` until it says None."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks = bytearray()

    def feed(self, data: bytes) -> None:
        """
        Raises:
            BadRequest: more was sent than one head and one body may hold.
        """
        if len(self._buffer) + len(data) > HEAD_LIMIT_BYTES + BODY_LIMIT_BYTES:
            raise BadRequest(413, "request too large")
        self._buffer += data

    def next(self) -> Request | None:
        """The next complete request, or None until more bytes come.

        Raises:
            BadRequest: what came is no HTTP/1.x request, or is over a limit.
        """
        if self._head is None:
            self._head = self._read_head()
        head = self._head
        if head is None:
            return None
        body = self._read_chunked() if head.length is None else self._read_sized(head.length)
        if body is None:
            return None
        self._head = None
        token = head.headers.get("connection", "").lower()
        keep_alive = head.http_11 and "close" not in token
        return Request(head.method, head.target, head.headers, body, keep_alive, head.http_11)

    def wants_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body. True once per request."""
        head = self._head
        return head is not None and head.headers.pop("expect", "").lower() == "100-continue"

    def _read_head(self) -> _Head | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_LIMIT_BYTES:
            if len(self._buffer) > HEAD_LIMIT_BYTES:
                raise BadRequest(431, "request head too large")
            return None
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        return _parse_head(lines)

    def _read_sized(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunked(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size_text = bytes(self._buffer[:end]).partition(b";")[0].strip()
            if not _SIZE.fullmatch(size_text):
                raise BadRequest(400, "bad chunk size")
            size = int(size_text, 16)
            if size + len(self._chunks) > BODY_LIMIT_BYTES:
                raise BadRequest(413, "request body too large")
            if len(self._buffer) < end + 2 + size + 2:
                return None
            if self._buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise BadRequest(400, "bad chunk end" if size else "trailers are not taken")
            self._chunks += self._buffer[end + 2 : end + 2 + size]
            del self._buffer[: end + 4 + size]
            if not size:
                body = bytes(self._chunks)
                self._chunks.clear()
                return body
        if len(self._buffer) > 1024:
            raise BadRequest(400, "bad chunk size")
        return None


def _parse_head(lines: list[bytes]) -> _Head:
    parts = lines[0].split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not parts[1].startswith(b"/"):
        raise BadRequest(400, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadRequest(400, "bad header line")
        key = name.decode("ascii").lower()
        if key in headers and key in ("content-length", "transfer-encoding", "host"):
            raise BadRequest(400, f"two {key} headers")
        headers[key] = value.strip(b" \t").decode("latin-1")
    method, target = parts[0].decode("latin-1"), parts[1].decode("latin-1")
    return _Head(method, target, headers, parts[2] == b"HTTP/1.1", _body_length(headers))


def _body_length(headers: dict[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise BadRequest(400, "body framing is ambiguous")
        return None
    if length is None:
        return 0
    if not length.isascii() or not length.isdigit() or len(length) > 15:
        raise BadRequest(400, "bad content-length")
    if int(length) > BODY_LIMIT_BYTES:
        raise BadRequest(413, "request body too large")
    return int(length)
