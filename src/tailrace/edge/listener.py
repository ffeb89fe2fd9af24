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


async def listen(edge: Edge, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
    """Accept clients on a listening socket, which the edge owns from now on.

    Args:
        tls: Speak HTTPS with this; None: HTTP.
    """
    edge.is_tls = tls is not None
    make = cast("Callable[[], asyncio.Protocol]", lambda: Connection(edge))
    edge.server = await edge.loop.create_server(
        make,
        sock=sock,
        backlog=2048,
        ssl=tls,
        ssl_handshake_timeout=edge.settings.header_timeout_s if tls else None,
        ssl_shutdown_timeout=CLOSE_S if tls else None,
    )
