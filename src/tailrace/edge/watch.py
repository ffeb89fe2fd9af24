"""Whether a client that does not move is still there."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

# How often it is asked.
LOOK_S = 0.5
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Watch:
    """Asks the kernel about one socket while it is not read: a leaving lies behind bytes nobody takes."""

    __slots__ = ("_loop", "_on_gone", "_timer", "_transport")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, on_gone: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_gone = on_gone
        self._timer = loop.call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """The socket is read again, or closed."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._transport.is_closing():
            return
        poller = select.poll()
        poller.register(self._transport.get_extra_info("socket").fileno(), _GONE)
        if poller.poll(0):  # the peer ended its side, or the connection broke
            self._on_gone()
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)


class Stall:
    """A client whose buffer is full: since when it has taken nothing of what was sent to it."""

    __slots__ = ("_left", "_since", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self._left = transport.get_write_buffer_size()
        self._since = now

    def since(self, now: float) -> float:
        """Monotonic seconds; it is now when it took something since the last look."""
        left = self._transport.get_write_buffer_size()
        if left != self._left:
            self._left, self._since = left, now
        return self._since
