"""The edge alone in a process, in front of one upstream: what a benchmark weighs."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop

from tailrace.edge.listener import listen
from tailrace.edge.plane import Edge
from tailrace.functions.table import Function, Replica, Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address, Exit
from tailrace.settings import load


class Handle:
    """A replica that runs elsewhere."""

    id, pid, import_s = "bench-1", 0, 0.0

    def __init__(self, path: str) -> None:
        self.address = Address(path=path)

    async def wait_retiring(self) -> str:
        return ""

    async def wait_exit(self) -> Exit:
        return Exit(0)

    async def stop(self, grace_s: float) -> Exit:
        del grace_s
        return Exit(0)


async def main(upstream: str) -> None:
    table = Table()
    function = Function(FunctionSpec(FunctionName("fn"), "image", "0" * 64), lambda: None)
    table.add(function)
    replica = Replica(function, "bench-1", function.spec.revision, 0.0)
    replica.handle, replica.state = Handle(upstream), "ready"
    function.replicas[replica.id] = replica
    function.route()
    edge = Edge(table, load(env={}), Address(path=upstream))
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    await listen(edge, sock)
    print(sock.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await edge.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
