"""A streaming proxy as one writes it with aiohttp: ``aiohttp_proxy.py SOCKET`` prints its port.

Runs in .venv-bench and imports nothing of ours. Adds the headers that Tailrace's edge adds; writes no log.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

import aiohttp  # type: ignore[import-not-found]  # in .venv-bench, where no types are checked
import uvloop
from aiohttp import web

PREFIX = "/function/fn"
# Of one connection to the next only.
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}


class Proxy:
    """Forwards every request to one upstream, and the answer piece by piece."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The upstream's answer, streamed as it comes unless it is sized."""
        call_id, start = uuid.uuid4().hex, str(time.time_ns())
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers |= {"X-Forwarded-For": request.remote or "", "X-Forwarded-Host": request.host}
        headers |= {"X-Forwarded-Proto": "http", "X-Call-Id": call_id, "X-Start-Time": start}
        target = "http://source" + request.raw_path.removeprefix(PREFIX)
        async with self._session.get(target, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            kept |= {"X-Call-Id": call_id, "X-Start-Time": start}
            if answer.content_length is not None:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            reply = web.StreamResponse(status=answer.status, headers=kept)
            await reply.prepare(request)
            async for piece in answer.content.iter_any():
                await reply.write(piece)
            await reply.write_eof()
            return reply


async def main(upstream: str) -> None:
    connector = aiohttp.UnixConnector(path=upstream, limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        app = web.Application()
        app.router.add_get("/{path:.*}", Proxy(session).forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=8192).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
