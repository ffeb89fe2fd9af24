"""A request's body as it comes from a client: where it ends, and what it may not be. No I/O."""

from __future__ import annotations

from tailrace.wire.chunked import ChunkedDecoder, CodingViolated
from tailrace.wire.heads import RequestHead


class BodyRefused(Exception):
    """A body that is answered with ``status``; nothing after it on the connection can be read."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BodyReader:
    """Reads one body of at most ``limit`` bytes.

    After each ``feed``: ``is_complete`` tells that it has ended, ``surplus`` what came after its end.

    Raises:
        BodyRefused: 413, the head declares more than the limit.
    """

    __slots__ = ("_decoder", "_left", "_limit", "_received", "is_complete", "surplus")

    def __init__(self, head: RequestHead, limit: int) -> None:
        self._decoder = ChunkedDecoder() if head.is_chunked else None
        self._left = head.content_length or 0
        self._limit = limit
        self._received = 0
        self.is_complete = False
        self.surplus = b""
        if self._left > limit:
            raise BodyRefused(413, f"the request body is larger than the limit of {limit} bytes (body_limit)")

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in data.

        Raises:
            BodyRefused: 400, the chunked coding is violated; 413, it became larger than the limit.
        """
        decoder = self._decoder
        if decoder is None:
            body, self.surplus = data[: self._left], data[self._left :]
            self._left -= len(body)
            self.is_complete = not self._left
            return body
        try:
            body = decoder.feed(data)
        except CodingViolated as violated:
            raise BodyRefused(400, str(violated)) from None
        self.surplus, self.is_complete = decoder.surplus, decoder.is_done
        self._received += len(body)
        if self._received > self._limit:
            raise BodyRefused(413, f"the request body is larger than {self._limit} bytes (body_limit)")
        return body
