"""A websocket on its way through the edge: two connections that have become one pipe.

Bytes pass as they are, each side pauses the other when it is full, and both end together. The idle clock
runs over both directions; whoever wants a tunnel to stay sends pings.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from tailrace.edge import ends
from tailrace.edge.clocks import Clocks
from tailrace.edge.closing import close_gently
from tailrace.edge.plane import Edge
from tailrace.edge.watch import Watch
from tailrace.errors import TailraceError


class Tunnel:
    """Owns both transports from `begin` on. ``on_over`` gets the end reason and the bytes sent to the client.

    To the plane it is one of its clients.
    """

    def __init__(
        self,
        edge: Edge,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        clocks: Clocks,
        on_over: Callable[[str, int], None],
    ) -> None:
        self.transport = client
        self.due_at = math.inf
        self._edge = edge
        self._upstream = upstream
        self._clocks = clocks
        self._on_over = on_over
        self._began_at = self._last_at = edge.clock()
        self._sent_bytes = 0
        self._is_over = False

    def begin(self, *, to_upstream: bytes, to_client: bytes) -> None:
        """Take the transports, and pass on what came before they were taken."""
        self._edge.clients.add(self)
        self._edge.numbers.connections_open += 1
        self.transport.set_protocol(_Side(self, self._upstream, is_client=True))
        self._upstream.set_protocol(_Side(self, self.transport, is_client=False))
        if to_upstream:
            self._upstream.write(to_upstream)
        if to_client:
            self.on_bytes(to_client, is_client=False)
            self.transport.write(to_client)
        self._edge.wheel.look_by(self, self._due_at())

    def on_bytes(self, data: bytes, *, is_client: bool) -> None:
        """Bytes came from one side."""
        self._last_at = self._edge.clock()
        if not is_client:
            self._sent_bytes += len(data)

    def on_end(self, *, is_client: bool, is_clean: bool) -> None:
        """One side ended: what it sent still leaves, then the other side ends too."""
        self._over(ends.CLIENT_GONE if is_client else ends.DONE if is_clean else ends.REPLICA_DIED)

    def watch(self, transport: asyncio.Transport, *, is_client: bool) -> Watch:
        """Ask about a side that is not read, until the watch is stopped."""

        def on_gone() -> None:
            self.on_end(is_client=is_client, is_clean=False)

        return Watch(self._edge.loop, transport, on_gone)

    def _over(self, reason: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._edge.clients.discard(self)
        self._edge.numbers.connections_open -= 1
        self._edge.wheel.forget(self)
        for transport in (self.transport, self._upstream):
            close_gently(self._edge.loop, transport)
        self._on_over(reason, self._sent_bytes)

    def _due_at(self) -> float:
        return min(self._last_at + self._clocks.idle_s, self._began_at + self._clocks.total_s)

    def on_clock(self, now: float) -> float:
        """End the tunnel when it was silent, or there, for too long."""
        if now < self._due_at():
            return self._due_at()
        is_idle = now >= self._last_at + self._clocks.idle_s
        self._over(ends.TIMEOUT + ("idle" if is_idle else "total"))
        return math.inf

    # As one of the plane's clients.

    def end(self, error: TailraceError, reason: str) -> None:  # noqa: ARG002  # there is nowhere to tell it
        """End both sides."""
        self._over(reason)

    def close_idle(self) -> None:
        """A tunnel is never idle in the sense of a connection that waits for its next request."""

    def take_no_more(self) -> bool:
        """A tunnel has no next request; it is waited for as a call is."""
        return False

    def held_bytes(self) -> int:
        """Bytes that wait for either side to read them."""
        return self.transport.get_write_buffer_size() + self._upstream.get_write_buffer_size()


class _Side(asyncio.Protocol):
    """One side's connection."""

    __slots__ = ("_is_client", "_other", "_tunnel", "_watch")

    def __init__(self, tunnel: Tunnel, other: asyncio.Transport, *, is_client: bool) -> None:
        self._tunnel = tunnel
        self._other = other
        self._is_client = is_client
        self._watch: Watch | None = None

    def data_received(self, data: bytes) -> None:
        self._tunnel.on_bytes(data, is_client=self._is_client)
        self._other.write(data)

    def eof_received(self) -> None:
        self._tunnel.on_end(is_client=self._is_client, is_clean=True)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_watch()
        self._tunnel.on_end(is_client=self._is_client, is_clean=error is None)

    def pause_writing(self) -> None:
        """This side is full: the other one is not read, only asked whether it is still there."""
        if not self._other.is_closing():
            self._other.pause_reading()
            self._watch = self._tunnel.watch(self._other, is_client=not self._is_client)

    def resume_writing(self) -> None:
        self._stop_watch()
        if not self._other.is_closing():
            self._other.resume_reading()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
