"""`/metrics` on a port of its own, for this machine only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace.control.guard import Guard
from tailrace.control.metrics.catalogue import Family
from tailrace.control.metrics.snapshot import Snapshot
from tailrace.control.serve import serving_on
from tailrace.errors import AddressTaken
from tailrace.ports import bind_tcp

HOST = "127.0.0.1"


def build_metrics_app(take: Callable[[], Snapshot], families: Sequence[Family]) -> ASGIApp:
    """Answers `/metrics` and `/healthz`; like a control plane without auth refuses web pages.

    Args:
        take: The numbers as they are now; asked on the loop's thread.
        families: What is told of them.
    """
    # Writing them out is work for one processor: two scrapers at once take turns.
    turn = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        async with turn:
            accept = request.headers.get("accept", "")
            body, content_type = await asyncio.to_thread(_render, take(), families, accept)
        return Response(body, headers={"content-type": content_type})

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [Route("/metrics", metrics, methods=["GET"]), Route("/healthz", health, methods=["GET"])]
    return Guard(Starlette(routes=routes), None, ())


def _render(snapshot: Snapshot, families: Sequence[Family], accept: str) -> tuple[bytes, str]:
    # The library takes 40 ms to load, which no start has to wait for.
    from tailrace.control.metrics.exposition import render

    return render(snapshot, families, accept)


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the metrics are; ``url`` is empty when they are off.

    ``moved_because`` says why it is another port than the one that was asked for; ``stop`` takes them away
    before the context is left.
    """

    url: str = ""
    moved_because: str = ""
    stop: Callable[[], None] = _do_nothing


@contextlib.asynccontextmanager
async def serving_metrics(
    port: int | None, take: Callable[[], Snapshot], families: Sequence[Family], *, may_move: bool
) -> AsyncIterator[Metrics]:
    """Serve the metrics on a port of this machine while the context is open.

    Args:
        port: 0 takes a free one; None: they are off.
        take, families: As for `build_metrics_app`.
        may_move: Take a free port when this one is taken.
    Raises:
        AddressTaken: the port belongs to another process.
    """
    if port is None:
        yield Metrics()
        return
    sock, moved_because = _bind(port, may_move=may_move)
    url = f"http://{HOST}:{sock.getsockname()[1]}/metrics"
    # Prometheus asks every 15 s to 60 s, most often, and keeps its connection.
    async with serving_on(build_metrics_app(take, families), sock, keep_alive_s=90) as stop:
        yield Metrics(url, moved_because, stop)


def _bind(port: int, *, may_move: bool) -> tuple[socket.socket, str]:
    try:
        return bind_tcp(HOST, port), ""
    except AddressTaken as taken:
        if not may_move:
            raise AddressTaken(
                f"the port of the metrics: {taken.message}",
                hint="Stop it, or choose another port: --metrics-port 8083 (0 takes a free one, off none).",
            ) from taken
        return bind_tcp(HOST, 0), taken.message
