"""What answers calls in each mode, and the limits around it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from tailrace_runtime.calls import Told
from tailrace_runtime.framing import status_line
from tailrace_runtime.watchdog.child import LOOPBACK, Child
from tailrace_runtime.watchdog.config import Config, parse_duration
from tailrace_runtime.watchdog.forks import Forks, Log
from tailrace_runtime.watchdog.static import Static
from tailrace_runtime.watchdog.upstream import UpstreamBroke, relay

if TYPE_CHECKING:
    from tailrace_runtime.call import Call
    from tailrace_runtime.exchange import AsyncApp, Exchange


class HttpApp:
    """Mode ``http``: the process's own server is asked."""

    def __init__(self, config: Config, child: Child, log: Log) -> None:
        self._prefix = config.upstream_path
        self._child = child
        self._log = log

    async def __call__(self, call: Call, exchange: Exchange) -> None:
        try:
            await relay(call, exchange, host=LOOPBACK, port=self._child.port, prefix=self._prefix)
        except (OSError, UpstreamBroke) as failed:
            self._log("stderr", f"{failed}\n")
            if isinstance(failed, UpstreamBroke):
                raise
            raise UpstreamBroke(str(failed)) from failed


class Limited:
    """An app with ``max_inflight`` and ``exec_timeout``, which a gateway elsewhere may not know of.

    Attributes:
        in_flight: Calls that run now.
    """

    def __init__(self, app: AsyncApp, config: Config, log: Log) -> None:
        self._app = app
        self._config = config
        self._log = log
        self.in_flight = 0

    @property
    def is_full(self) -> bool:
        return 0 < self._config.max_inflight <= self.in_flight

    async def __call__(self, call: Call, exchange: Exchange) -> None:
        if self.is_full:
            words = (
                f"Concurrent request limit exceeded. Max concurrent requests: {self._config.max_inflight}\n"
            )
            answer(exchange, 429, words, "faas-middleware")
            return
        self.in_flight += 1
        try:
            await self._within(call, exchange)
        finally:
            self.in_flight -= 1

    async def _within(self, call: Call, exchange: Exchange) -> None:
        limit_s = allowed_s(call, self._config.exec_s)
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit_s or None):
                await self._app(call, exchange)
        except TimeoutError:
            if not limit_s or time.monotonic() - began < limit_s:
                raise  # the function's own
            self._log("stderr", f"exec_timeout: the call took longer than {limit_s:g} s\n")
            if exchange.is_begun:
                raise Told(f"the call took longer than {limit_s:g} s") from None
            answer(exchange, 504, f"the call took longer than {limit_s:g} s\n", "of-watchdog")


def build_app(config: Config, child: Child, log: Log) -> AsyncApp:
    """What answers calls in the config's mode."""
    if config.mode == "http":
        return HttpApp(config, child, log)
    if config.mode == "static":
        return Static(config.static_path)
    return Forks(config, log)


def allowed_s(call: Call, exec_s: float) -> float:
    """Seconds a call may take: ``X-Timeout`` only shortens; 0: no limit."""
    limits_s = [exec_s] if exec_s else []
    for value in call.values(b"x-timeout"):
        with contextlib.suppress(ValueError):
            limits_s.append(parse_duration(value.decode("latin-1")))
    return min((limit_s for limit_s in limits_s if limit_s), default=0.0)


def answer(exchange: Exchange, status: int, words: str, origin: str) -> None:
    """Answer in the platform's own words, which ``X-OpenFaaS-Internal`` marks."""
    if exchange.is_started:  # its head was decided and not sent: it is decided anew
        exchange.forget_head()
    body = words.encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))),
        ("X-OpenFaaS-Internal", origin),
    ]  # fmt: skip
    exchange.start(status_line(status), headers)
    exchange.finish(body)
