"""A gateway that records every call of ``fn``, in front of one upstream: what ``bench.runs`` weighs.

``python -m bench.recording SOCKET LOG NATS_URL CONTROL_SOCKET``: prints its port, and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path

import nats
import uvloop

from bench.edge import table_of
from tailrace.build.store import BundleStore
from tailrace.control.app import build_app
from tailrace.control.parts import Parts
from tailrace.control.serve import serving
from tailrace.edge.calllog import CallLog
from tailrace.edge.listener import listen
from tailrace.edge.numbers import Numbers
from tailrace.edge.plane import Edge
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.gateway import calm_collector
from tailrace.provider.contract import Address
from tailrace.provider.memory import MemoryProvider
from tailrace.runs.keeper import Runs
from tailrace.runs.peers import gateway_name
from tailrace.runs.store import Bounds
from tailrace.settings import load

OPTIONS = {"com.tailrace.stream.record": "true", "com.tailrace.stream.dialect": "native"}


async def _prune(_: object) -> None:
    """There are no bundles."""


async def main(path: str, log_path: str, nats_url: str, control: str) -> None:
    settings, numbers, loop = load(env={}), Numbers(), asyncio.get_running_loop()
    client = await nats.connect(nats_url)
    runs = Runs(client, gateway_name(secrets.token_hex(8)), settings)
    await runs.start(Bounds(settings.runs_max_age_s, settings.runs_max_bytes))
    table, provider, logs = table_of(Address(path=path), OPTIONS), MemoryProvider(), LogStore(100)
    with tempfile.TemporaryDirectory() as folder:
        bundles = BundleStore(Path(folder), limit_bytes=1)
        reconciler = Reconciler(table, provider, logs)
        parts = Parts(settings, table, reconciler, provider, bundles, logs, _prune, time.monotonic, runs)
        lines = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        log = CallLog(settings.log_format, lambda data: os.write(lines, data) == len(data), numbers, loop)
        async with serving(build_app(parts, None), Path(control)):
            edge = Edge(table, settings, Address(path=control), numbers=numbers, log=log, runs=runs)
            sock = socket.create_server(("127.0.0.1", 0), backlog=8192)
            await listen(edge, sock)
            with calm_collector():
                print(sock.getsockname()[1], flush=True)
                await loop.run_in_executor(None, sys.stdin.read)
            await edge.aclose()
        log.close()
    await runs.aclose()
    await client.close()
    await provider.aclose()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
