"""A call's way to a process that serves HTTP itself, and its answer's way back, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import httptools

from tailrace_runtime.calls import Told
from tailrace_runtime.watchdog import duration

if TYPE_CHECKING:
    from tailrace_runtime.call import Call
    from tailrace_runtime.exchange import Exchange
    from tailrace_runtime.framing import Headers

READ_BYTES = 64 * 1024
HEAD_LIMIT = 128 * 1024
# The connection's own, in either direction. Source: RFC 9110 section 7.6.1.
_HOP_BY_HOP = frozenset(
    (
        "connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
        "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
    )
)  # fmt: skip


class UpstreamBroke(Told):
    """The process closed the connection before its answer was whole, or sent no answer."""


async def relay(call: Call, exchange: Exchange, *, host: str, port: int, prefix: str) -> None:
    """Ask the process and pass on its answer as it comes.

    Raises:
        OSError: nobody listens there.
        UpstreamBroke: the answer is no HTTP, or ended too early: it is never given a clean end.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
    try:
        writer.write(request_head(call, host=host, port=port, prefix=prefix) + call.body)
        sending = asyncio.ensure_future(_drain(writer))
        try:
            await _Answer(call, exchange).read(reader)
        finally:
            sending.cancel()
    finally:
        writer.transport.abort()


async def _drain(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # its answer says why, if there is one
        await writer.drain()


def request_head(call: Call, *, host: str, port: int, prefix: str) -> bytes:
    """The request as the process gets it: on a connection of its own, with a length."""
    target = prefix.encode() + call.path + (b"?" + call.query if call.query else b"")
    lines = [b"%b %b HTTP/1.1" % (call.method.encode(), target)]
    has_host = False
    for name, value in call.headers:
        lowered = name.decode("latin-1").lower()
        has_host = has_host or lowered == "host"
        if lowered not in _HOP_BY_HOP:
            lines.append(name + b": " + value)
    if not has_host:
        lines.append(f"Host: {host}:{port}".encode())
    if call.body or call.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(call.body))
    lines += [b"Connection: close", b"", b""]
    return b"\r\n".join(lines)


class _Answer:
    """Reads one answer and writes it to the exchange. httptools calls its ``on_`` methods."""

    def __init__(self, call: Call, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_head = call.method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._began = time.monotonic()
        self._reason = ""
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._is_sized = False
        self.is_over = False

    async def read(self, reader: asyncio.StreamReader) -> None:
        exchange = self._exchange
        while not self.is_over:
            data = await reader.read(READ_BYTES)
            if not data:
                self._end_by_close()
                break
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise UpstreamBroke(f"the process answered no HTTP: {error}") from error
            for piece in self._body:
                exchange.write(piece)
            self._body.clear()
            await exchange.wait_writable()
        exchange.finish()

    def _end_by_close(self) -> None:
        """Only a body without a length and chunks ends so."""
        if not self._exchange.is_started:
            raise UpstreamBroke("the process closed the connection without an answer")
        if self._is_sized:
            raise UpstreamBroke("the process broke its answer off")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_LIMIT:
            raise ValueError(f"the head is over {HEAD_LIMIT} bytes")
        self._headers.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
            self._reason = ""
            return
        names = {name.lower() for name, _ in self._headers}
        self._is_sized = bool(names & {"content-length", "transfer-encoding"})
        self._exchange.start(f"{status} {self._reason or 'Unknown'}", self._kept())
        self._exchange.announce()
        if self._is_head or status in (204, 304):
            self.is_over = True

    def _kept(self) -> Headers:
        kept = [
            (name, value)
            for name, value in self._headers
            if name.lower() not in _HOP_BY_HOP or name.lower() == "content-length"
        ]
        return [*kept, duration.since(self._began)]

    def on_body(self, body: bytes) -> None:
        if not self.is_over:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.is_over = True
