"""A mock model in its own thread, so that tests may use blocking clients, and raw sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TypeVar

import uvloop

from tailrace.llm.mock import Behaviour, ConnectionLog, MockServer, start_mock

T = TypeVar("T")


@dataclass(frozen=True)
class Mock:
    """A running mock. Its log is read on its own loop, through `wait`."""

    server: MockServer
    loop: asyncio.AbstractEventLoop

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def wait(self, condition: Callable[[ConnectionLog], bool], timeout_s: float = 5.0) -> ConnectionLog:
        """The log, once the condition holds; TimeoutError when it does not within timeout_s."""
        self.call(self.server.log.wait_until(condition, timeout_s=timeout_s))
        return self.server.log

    def call(self, work: Coroutine[object, object, T]) -> T:
        """Run work on the mock's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextlib.contextmanager
def running_mock(
    behaviour: Behaviour | None = None,
    *,
    accept_s: float = 0.0,
    api_key: str | None = None,
    is_uvloop: bool = False,
) -> Iterator[Mock]:
    """A mock that answers as the behaviour says; at once and fast unless given."""
    loop = uvloop.new_event_loop() if is_uvloop else asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mock model")
    thread.start()
    server = None
    try:
        starting = start_mock(
            behaviour=behaviour or Behaviour(ttft_s=0, tps=0), accept_s=accept_s, api_key=api_key
        )
        server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
        yield Mock(server, loop)
    finally:
        if server is not None:
            asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
