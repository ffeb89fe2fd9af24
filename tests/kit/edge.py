"""An edge in front of replicas whose every byte a test writes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tailrace.edge.listener import listen
from tailrace.edge.plane import Edge
from tailrace.functions.table import Function, Replica, Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address, Exit
from tailrace.settings import load

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Handle:
    """A replica's handle that is nothing but an address."""

    address: Address
    id: str = "r-1"
    pid: int = 0
    import_s: float = 0.0

    async def wait_retiring(self) -> str:
        return ""

    async def wait_exit(self) -> Exit:
        return Exit(0)

    async def stop(self, grace_s: float) -> Exit:
        del grace_s
        return Exit(0)


@dataclass
class EdgeUnderTest:
    """A running edge with one function ``fn`` and a control plane that answers 200 ``control``."""

    edge: Edge
    port: int
    function: Function
    address: Address
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def add_replica(self) -> Replica:
        """Make a replica ready, as the reconcile loop does."""
        replica = Replica(self.function, "r-1", self.function.spec.revision, 0.0)
        replica.handle, replica.state = Handle(self.address), "ready"
        self.function.replicas["r-1"] = replica
        self.function.route()
        return replica

    def stop_replicas(self) -> None:
        """End the replicas' scripts, which may be waiting for nothing."""
        for task in self.tasks:
            task.cancel()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """Everything the edge answers to these bytes until it closes the connection (10 s at most)."""
        async with asyncio.timeout(10):
            reader, writer = await self.connect()
            writer.write(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := await reader.read(65536):
                    answer += piece
            writer.close()
            return answer


@contextlib.asynccontextmanager
async def edge_before(
    script: Script,
    *,
    is_ready: bool = True,
    annotations: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    **flags: object,
) -> AsyncIterator[EdgeUnderTest]:
    """An edge whose replica answers each connection by ``script``."""

    tasks: set[asyncio.Task[None]] = set()

    def tracked(serve: Script) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(replica(serve, reader, writer))
            tasks.add(task)

        return on_connection

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontrol")

    async def replica(serve: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    with tempfile.TemporaryDirectory(prefix="tr-") as folder:
        paths = Path(folder, "control.sock"), Path(folder, "replica.sock")
        servers = [
            await asyncio.start_unix_server(tracked(control), paths[0]),
            await asyncio.start_unix_server(tracked(script), paths[1]),
        ]
        table = Table()
        spec = FunctionSpec(FunctionName("fn"), "image", "0" * 64, annotations=annotations or {})
        function = Function(spec, lambda: None)
        table.add(function)
        edge = Edge(table, load(flags, env={}), Address(path=str(paths[0])))
        sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        port = sock.getsockname()[1]
        await listen(edge, sock, tls=tls)
        under_test = EdgeUnderTest(edge, port, function, Address(path=str(paths[1])), tasks)
        if is_ready:
            under_test.add_replica()
        try:
            yield under_test
        finally:
            await edge.aclose()
            for server in servers:
                server.close()
            await asyncio.sleep(0)  # a connection that was accepted last gets its task now, which is awaited
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request as a replica gets it: its head, and its body decoded."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await read_body(head, reader)


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The rest of the request that has this head, decoded."""
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    if b"transfer-encoding: chunked" not in lines:
        return await reader.readexactly(length)
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
