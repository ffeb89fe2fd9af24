"""A request's body on its way to the replica: held while the call waits, then written on as it comes."""

from __future__ import annotations

import asyncio
import math

from tailrace.edge.outbox import Outbox

# Request body bytes held while a call waits; beyond it the client is not read.
HELD_BODY_BYTES = 64 * 1024


class Upload:
    """One request's body. The connection that reads it is paused and resumed by whoever asks here.

    Attributes:
        is_complete: Whether the client has sent all of it.
        is_full: Whether the client should not be read for now.
        limit_bytes: What is held at most while nobody reads it on.
        read_at: When the client's last bytes came, monotonic seconds.
        passed_at: When the replica was given some last; infinite before.
    """

    __slots__ = (
        "_held",
        "_is_chunked",
        "_outbox",
        "_transport",
        "is_complete",
        "is_full",
        "limit_bytes",
        "passed_at",
        "read_at",
    )

    def __init__(self, outbox: Outbox, now: float, *, is_chunked: bool) -> None:
        self._outbox = outbox
        self._is_chunked = is_chunked
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self.is_complete = False
        self.is_full = False
        self.limit_bytes = HELD_BODY_BYTES
        self.read_at = now
        self.passed_at = math.inf

    def take(self, body: bytes, now: float, *, is_last: bool) -> None:
        """The next piece; ``is_last`` also for an empty one."""
        self.read_at = now
        if self._is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = framed + b"0\r\n\r\n" if is_last else framed
        self.is_complete = is_last
        if self._transport is not None:
            self.passed_at = now
            self._outbox.put(self._transport, body)
            return
        self._held += body
        self.is_full = len(self._held) > self.limit_bytes and not is_last

    def attach(self, transport: asyncio.Transport, now: float) -> bytes:
        """Write on to a replica from now on; what was held until here, for the caller to write."""
        self._transport = transport
        self.read_at = self.passed_at = now
        self.is_full = False
        held, self._held = bytes(self._held), bytearray()
        return held

    def drop(self) -> None:
        """Nobody wants the rest."""
        self._held.clear()
        self._transport = None

    def held_bytes(self) -> int:
        """Bytes that wait here, or for the replica to read them."""
        return len(self._held) + (self._transport.get_write_buffer_size() if self._transport else 0)
