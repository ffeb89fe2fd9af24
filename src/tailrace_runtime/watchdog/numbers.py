"""The watchdog's three metrics, and the small server that shows them. Source: contract section 3."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

# Prometheus' default buckets, as of-watchdog has them, and longer ones: an answer of a model takes minutes.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_READ_S = 5.0


class Numbers:
    """Counts of calls by status and method. Attributes: ``in_flight``, calls that run now."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def observe(self, code: str, method: str, took_s: float) -> None:
        """Count one call that is over."""
        key = code, method
        buckets = self._buckets.setdefault(key, [0] * (len(BOUNDS_S) + 1))
        buckets[next((at for at, bound in enumerate(BOUNDS_S) if took_s <= bound), len(BOUNDS_S))] += 1
        self._sums[key] = self._sums.get(key, 0.0) + took_s

    def render(self) -> str:
        """All of them in Prometheus' text format."""
        lines = ["# TYPE http_requests_in_flight gauge", f"http_requests_in_flight {self.in_flight}"]
        lines.append("# TYPE http_requests_total counter")
        for (code, method), buckets in sorted(self._buckets.items()):
            lines.append(f'http_requests_total{{code="{code}",method="{method}"}} {sum(buckets)}')
        lines.append("# TYPE http_request_duration_seconds histogram")
        for (code, method), buckets in sorted(self._buckets.items()):
            labels, count = f'code="{code}",method="{method}"', 0
            for bound, found in zip((*map(str, BOUNDS_S), "+Inf"), buckets, strict=True):
                count += found
                lines.append(f'http_request_duration_seconds_bucket{{{labels},le="{bound}"}} {count}')
            lines.append(f"http_request_duration_seconds_sum{{{labels}}} {self._sums[code, method]:.6f}")
            lines.append(f"http_request_duration_seconds_count{{{labels}}} {count}")
        return "\n".join([*lines, ""])


@contextlib.asynccontextmanager
async def serve_numbers(numbers: Numbers, host: str, port: int) -> AsyncIterator[int]:
    """Show them at ``/metrics`` while the context is open; the port that it really has."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_READ_S):
                head = await reader.readuntil(b"\r\n\r\n")
                is_there = head.startswith(b"GET /metrics")
                status, body = ("200 OK", numbers.render()) if is_there else ("404 Not Found", "")
                kind = "text/plain; version=0.0.4; charset=utf-8"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    f"Connection: close\r\n\r\n{body}".encode()
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=16 * 1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
