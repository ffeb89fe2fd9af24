"""One request over the edge's private socket, its answer as it comes, on a connection of its own.

A pool of connections, as HTTP clients have it, looks at all of them for each request; a new one on a unix
socket costs some 50 us, and ends with its call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from tailrace.wire.chunked import ChunkedDecoder, CodingViolated
from tailrace.wire.heads import HeadReader, HeadRefused, ResponseHead, parse_response

READ_BYTES = 64 * 1024


class CallBroke(Exception):
    """The connection ended, or what came was no HTTP, before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, and its body; the body is read once."""

    head: ResponseHead
    body: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def post(
    socket: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> AsyncIterator[Answer]:
    """POST this, and read what comes. Leaving the context closes the connection.

    Args:
        target: In origin form, as it is to be seen.
        headers: Without those of the connection and the length.
    Raises:
        CallBroke: before the head was whole; later `Answer.body` raises it.
    """
    lines = [b"POST " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    if any(b"\r" in line or b"\n" in line for line in lines):  # kept in NATS, where others may write
        raise CallBroke("a line of the request holds a line end")
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError as failed:
        raise CallBroke(str(failed)) from failed
    try:
        writer.write(b"\r\n".join(lines) + body)
        head, first = await _read_head(reader)
        yield Answer(head, _read_body(reader, head, first))
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(READ_BYTES)
    except OSError as failed:
        raise CallBroke(str(failed)) from failed


async def _read_head(reader: asyncio.StreamReader) -> tuple[ResponseHead, bytes]:
    """The head of the final answer, and what came with it of its body."""
    heads, data = HeadReader(), b""
    while True:
        data = data or await _read(reader)
        if not data:
            raise CallBroke("the connection ended before the answer's head")
        try:
            found = heads.feed(data)
            if found is None:
                data = b""
                continue
            text, data = found
            head = parse_response(text)
        except HeadRefused as refused:
            raise CallBroke(refused.reason) from refused
        if head.status >= 200:
            return head, data


async def _read_body(reader: asyncio.StreamReader, head: ResponseHead, data: bytes) -> AsyncIterator[bytes]:
    """The body's bytes as they come, to its end.

    Raises:
        CallBroke: it was not whole.
    """
    if not head.has_body(b"POST"):
        return
    chunks = ChunkedDecoder() if head.is_chunked else None
    left = head.content_length
    while left != 0:
        data = data or await _read(reader)
        if not data:
            if chunks is None and left is None:
                return
            raise CallBroke("the connection ended in the middle of the answer")
        if chunks is not None:
            try:
                data = chunks.feed(data)
            except CodingViolated as violated:
                raise CallBroke(str(violated)) from violated
            left = 0 if chunks.is_done else None
        elif left is not None:
            left -= len(data)
        if data:
            yield data
        data = b""
