"""ASGI's lifespan: an app's own start before its first call, and its end after the last.

Source: ASGI 3.0, lifespan 2.0. An app that raises instead of answering does not know it, and is served
without; one that answers ``lifespan.startup.failed`` cannot be served.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from tailrace_runtime.asgi import ASKS_AGAIN_S, VERSIONS, App, Message, misplaced
from tailrace_runtime.journal import Journal
from tailrace_runtime.load import LoadFailed

# How long the app's shutdown may take; whoever stops the replica may be less patient.
SHUTDOWN_S = 10.0


class Lifespan:
    """Entering it runs the app's startup, leaving it its shutdown.

    ``state`` is what the startup put there: each call gets a copy.

    Raises:
        LoadFailed: on entering; the app says that its startup failed.
    """

    def __init__(self, app: App, journal: Journal) -> None:
        self.state: dict[str, object] = {}
        self._app = app
        self._journal = journal
        self._has_begun = False
        self._was_told = False
        self._is_known = False
        self._is_stopping = asyncio.Event()
        self._answered = asyncio.Event()
        self._failure: LoadFailed | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lifespan:
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._answered.wait()
        if self._failure is not None:
            await self._end()
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._is_known:
            self._answered.clear()
            self._is_stopping.set()
            try:
                async with asyncio.timeout(SHUTDOWN_S):
                    await self._answered.wait()
            except TimeoutError:
                self._journal.stderr.write(f"tailrace: the app's shutdown took over {SHUTDOWN_S:g} s\n")
        await self._end()

    async def _run(self) -> None:
        scope: dict[str, object] = {"type": "lifespan", "asgi": dict(VERSIONS), "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._has_begun and self._failure is None:
                self._journal.failure(error)
        finally:
            self._is_known = False
            self._answered.set()

    async def _receive(self) -> Message:
        if not self._has_begun:
            self._has_begun = True
            return {"type": "lifespan.startup"}
        await self._is_stopping.wait()
        if self._was_told:
            await asyncio.sleep(ASKS_AGAIN_S)
        self._was_told = True
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._is_known = True
        elif kind == "lifespan.startup.failed":
            self._failure = _startup_failed(str(message.get("message") or ""))
        elif kind == "lifespan.shutdown.failed":
            self._journal.stderr.write(f"the app's shutdown failed: {message.get('message') or ''}\n")
        elif kind != "lifespan.shutdown.complete":
            raise misplaced(kind)
        self._answered.set()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


def _startup_failed(message: str) -> LoadFailed:
    """Starlette's message is a whole traceback, whose last line says what happened."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return LoadFailed(
        f"the app's startup failed: {lines[-1] if lines else 'it does not say why'}", trace=message
    )
