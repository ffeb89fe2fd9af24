"""Where clients connect."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

from tailrace.edge.closing import CLOSE_S
from tailrace.edge.connection import Connection
from tailrace.edge.plane import Edge

# What the kernel takes of an answer before it is sent, and its clients inherit. Without it a reader that
# stops is noticed only when megabytes wait for it in the kernel.
UNSENT_BYTES = 128 * 1024


async def listen_private(edge: Edge, path: str) -> None:
    """Accept calls on a unix socket whose callers may say which run a call is: the queue's workers."""
    make = cast("Callable[[], asyncio.Protocol]", lambda: Connection(edge, is_private=True))
    edge.private = await edge.loop.create_unix_server(make, path, backlog=1024)


async def listen(edge: Edge, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
    """Accept clients on a listening socket, which the edge owns from now on.

    Args:
        tls: Speak HTTPS with this; None: HTTP.
    """
    edge.is_tls = tls is not None
    if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    make = cast("Callable[[], asyncio.Protocol]", lambda: Connection(edge))
    edge.server = await edge.loop.create_server(
        make,
        sock=sock,
        backlog=2048,
        ssl=tls,
        ssl_handshake_timeout=edge.settings.header_timeout_s if tls else None,
        ssl_shutdown_timeout=CLOSE_S if tls else None,
    )
