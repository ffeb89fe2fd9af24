"""Whether a client that does not move is still there."""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Callable

# How often it is asked.
LOOK_S = 0.5
# What a client takes is asked for so often within the time it may take nothing. Asked for at its end alone,
# the bytes that the kernel had room for at its beginning would earn it the same time once more.
STALL_LOOKS = 8
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
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.is_closing():
            return
        poller = select.poll()
        poller.register(sock.fileno(), _GONE)
        if poller.poll(0):  # the peer ended its side, or the connection broke
            self._on_gone()
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)


class Stall:
    """A client whose buffer is full, and how long it may go on taking nothing of what was sent to it."""

    __slots__ = ("_left", "_limit_s", "_since", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float, limit_s: float) -> None:
        self._transport = transport
        self._limit_s = limit_s
        self._left = _untaken_bytes(transport)
        self._since = now

    def look_again(self, now: float) -> float:
        """When to look again; not after now: it has taken nothing for the limit."""
        left = _untaken_bytes(self._transport)
        if left != self._left:
            self._left, self._since = left, now
        return min(self._since + self._limit_s, now + self._limit_s / STALL_LOOKS)


def _untaken_bytes(transport: asyncio.Transport) -> int:
    """What was sent and the peer has not taken: here, and in the kernel where it tells (Linux).

    The kernel asks for more only when a good part of its own buffer, megabytes, is free again; a reader of
    some KB a second would seem to have stopped.
    """
    left = transport.get_write_buffer_size()
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return left
    return left + int(struct.unpack("i", queued)[0])
