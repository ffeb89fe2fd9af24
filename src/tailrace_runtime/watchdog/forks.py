"""Modes ``streaming`` and ``serializing``: a process a call, its stdin the request, its stdout the answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace_runtime.calls import Told
from tailrace_runtime.framing import status_line
from tailrace_runtime.watchdog import duration
from tailrace_runtime.watchdog.spawn import LAST_WORDS_S, Process, start

if TYPE_CHECKING:
    from tailrace_runtime.call import Call
    from tailrace_runtime.exchange import Exchange
    from tailrace_runtime.watchdog.config import Config

READ_BYTES = 64 * 1024
# What mode ``serializing`` holds of one answer.
ANSWER_LIMIT = 64 * 1024 * 1024
# What is told of stderr when a process fails before its first byte.
WORDS_LIMIT = 8 * 1024

Log = Callable[[str, str], None]


class ProcessFailed(Told):
    """The process of a call ended with an error, of which its answer can not tell."""


class Forks:
    """Serves each call with a process of its own."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log

    async def __call__(self, call: Call, exchange: Exchange) -> None:
        began = time.monotonic()
        env = {**os.environ, **request_env(call)}
        process = await start(self._config.fprocess, env, limit=READ_BYTES)
        words = bytearray()
        beside = [
            asyncio.ensure_future(work) for work in (_feed(process, call.body), self._listen(process, words))
        ]
        try:
            if self._config.mode == "streaming":
                await self._stream(process, exchange, began)
            else:
                await self._serialize(process, exchange, beside[1], words, began)
        finally:
            await asyncio.shield(process.end(beside))

    async def _stream(self, process: Process, exchange: Exchange, began: float) -> None:
        kind = ("Content-Type", self._config.content_type)
        while data := await process.stdout.read(READ_BYTES):
            if not exchange.is_started:
                exchange.start(status_line(200), [kind, duration.since(began)])
            exchange.write(data)
            await exchange.wait_writable()
        code = await process.wait()
        if code:
            raise self._failed(f"the process ended with exit code {code}")
        if not exchange.is_started:
            exchange.start(status_line(200), [kind, ("Content-Length", "0"), duration.since(began)])
        exchange.finish()

    async def _serialize(
        self,
        process: Process,
        exchange: Exchange,
        listening: asyncio.Future[None],
        words: bytearray,
        began: float,
    ) -> None:
        answer = bytearray()
        while data := await process.stdout.read(READ_BYTES):
            answer += data
            if len(answer) > ANSWER_LIMIT:
                raise self._failed(
                    f"the answer is over {ANSWER_LIMIT} bytes; mode=streaming holds none of it"
                )
        code = await process.wait()
        await asyncio.wait([listening], timeout=LAST_WORDS_S)
        status, kind = (500, "text/plain; charset=utf-8") if code else (200, self._config.content_type)
        body = bytes(words) or b"exit code %d\n" % code if code else bytes(answer)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), duration.since(began)]
        exchange.start(status_line(status), headers)
        exchange.finish(body)

    def _failed(self, words: str) -> ProcessFailed:
        self._log("stderr", f"{words}\n")
        return ProcessFailed(words)

    async def _listen(self, process: Process, words: bytearray) -> None:
        """Hand on what it writes to stderr, and keep the end of it."""
        while data := await process.stderr.read(READ_BYTES):
            words += data
            del words[:-WORDS_LIMIT]
            self._log("stderr", data.decode("utf-8", "replace"))


async def _feed(process: Process, body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        process.stdin.write(body)
        await process.stdin.drain()
    process.stdin.close()


def request_env(call: Call) -> dict[str, str]:
    """The request as variables: ``Http_Method``, ``Http_Path``, ``Http_Query``, and one for each header.

    Source: contract section 2.2.
    """
    env = {
        "Http_Method": call.method,
        "Http_Path": call.path.decode("latin-1"),
        "Http_Query": call.query.decode("latin-1"),
        "Http_ContentLength": str(len(call.body)),
        "Http_Content_Length": str(len(call.body)),
    }
    for raw_name, raw_value in call.headers:
        name = "-".join(part.capitalize() for part in raw_name.decode("latin-1").split("-"))
        key, value = f"Http_{name.replace('-', '_')}", raw_value.decode("latin-1")
        if "\0" not in value:
            env[key] = f"{env[key]},{value}" if key in env and key != "Http_Content_Length" else value
    return env
