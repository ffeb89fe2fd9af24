"""The edge alone in a process, in front of one upstream, with everything on: what a benchmark weighs.

``python -m bench.edge SOCKET LOG``: prints its port, and ends when stdin does. Each call is counted, and
written to the file LOG, as a gateway does it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping

import uvloop

from tailrace.edge.calllog import CallLog
from tailrace.edge.listener import listen
from tailrace.edge.numbers import Numbers
from tailrace.edge.plane import Edge
from tailrace.edge.proxies import Proxies
from tailrace.functions.table import Function, Replica, Table
from tailrace.gateway import calm_collector
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address, Exit
from tailrace.settings import load


class Handle:
    """A replica that runs elsewhere."""

    id, pid, import_s = "bench-1", 0, 0.0

    def __init__(self, address: Address) -> None:
        self.address = address

    async def wait_retiring(self) -> str:
        return ""

    async def wait_exit(self) -> Exit:
        return Exit(0)

    async def stop(self, grace_s: float) -> Exit:
        del grace_s
        return Exit(0)


def table_of(upstream: Address, annotations: Mapping[str, str] | None = None) -> Table:
    """A table with one function ``fn`` and its one replica, ready."""
    table = Table()
    spec = FunctionSpec(FunctionName("fn"), "image", "0" * 64, annotations=annotations or {})
    function = Function(spec, lambda: None)
    table.add(function)
    replica = Replica(function, "bench-1", function.spec.revision, 0.0)
    replica.handle, replica.state = Handle(upstream), "ready"
    function.replicas[replica.id] = replica
    function.route()
    return table


async def main(path: str, log_path: str) -> None:
    upstream = Address(path=path)
    settings, numbers, loop = load(env={}), Numbers(), asyncio.get_running_loop()
    lines = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    log = CallLog(settings.log_format, lambda data: os.write(lines, data) == len(data), numbers, loop)
    proxies = Proxies(settings.trusted_proxies)
    edge = Edge(table_of(upstream), settings, upstream, numbers=numbers, log=log, proxies=proxies)
    sock = socket.create_server(("127.0.0.1", 0), backlog=8192)
    await listen(edge, sock)
    with calm_collector():
        print(sock.getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
    await edge.aclose()
    log.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
