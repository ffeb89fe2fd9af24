"""How a connection is brought to an end: gently, so that what was written still arrives, or with a reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

# A peer that takes nothing of what was written last for this long is cut.
CLOSE_S = 5.0


def close_gently(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    """Close once everything written has left; give up on a peer that takes none of it."""
    transport.close()
    if left := transport.get_write_buffer_size():
        loop.call_later(CLOSE_S, _give_up, loop, transport, left)


def _give_up(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, left_before: int) -> None:
    left = transport.get_write_buffer_size()
    if left == left_before:
        transport.abort()
    elif left:
        loop.call_later(CLOSE_S, _give_up, loop, transport, left)


def reset_when_closed(transport: asyncio.Transport) -> None:
    """Let the end be an RST: where a body's end is the connection's, a FIN would be a clean one."""
    sock = transport.get_extra_info("socket")
    if sock is None:  # a TLS connection that is lost, of which its protocol hears in the next turn
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
