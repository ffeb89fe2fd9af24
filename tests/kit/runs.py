"""Gateways that share one NATS, each with an edge, a control plane and replicas that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client as NatsClient
from nats.js.api import StreamConfig

from tailrace.build.store import BundleStore
from tailrace.control.app import build_app
from tailrace.control.parts import Parts
from tailrace.control.serve import serving
from tailrace.edge.listener import listen, listen_private
from tailrace.edge.plane import Edge
from tailrace.errors import RunsUnavailable
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address
from tailrace.provider.memory import Handler, MemoryCall, MemoryProvider, MemoryReply
from tailrace.queue.intake import Intake
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.opening import open_queue, working_here
from tailrace.queue.worker import Worker
from tailrace.runs.keeper import Runs
from tailrace.runs.peers import gateway_name
from tailrace.runs.store import Bounds
from tailrace.settings import load
from tailrace.wire.chunked import ChunkedDecoder

BIN = Path(sys.executable).parent / "nats-server"
BOUNDS = Bounds(max_age_s=172_800, max_bytes=1 << 28)
RECORDED = {"com.tailrace.stream.record": "true"}


@dataclass
class NatsServer:
    """A nats-server with JetStream on a free port of loopback, its store below a folder."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = -1
    flags: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it, on the port it had before."""
        ports = self.folder / "ports"
        ports.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [BIN, "-js", "-sd", self.folder / "store", "-a", "127.0.0.1", "-p", str(self.port),
             "--ports_file_dir", ports, *self.flags],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline
            found = [f for f in ports.iterdir() if f.name.endswith(f"_{self.process.pid}.ports")]
            if found and found[0].read_text().strip():
                self.port = int(json.loads(found[0].read_text())["nats"][0].rpartition(":")[2])
                return
            time.sleep(0.01)

    def kill(self) -> None:
        """What kill -9 does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class NatsCluster:
    """Three nats-servers with JetStream that make one cluster on loopback."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.nodes = []
        for number, port in enumerate(ports):
            below = folder / f"n{number}"
            below.mkdir()
            flags = ("-server_name", f"n{number}", "-cluster_name", "tr", "-cluster", f"nats://127.0.0.1:{port}",
                     "-routes", routes)  # fmt: skip
            self.nodes.append(NatsServer(below, flags=flags))

    def __enter__(self) -> NatsCluster:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def is_ready(self) -> bool:
        """Whether it keeps streams of three copies by now."""

        async def ask() -> bool:
            client = await nats.connect(self.url.split(","), error_cb=_ignore)
            try:
                config = StreamConfig(name="READY", subjects=["ready"], num_replicas=3)
                await client.jetstream(timeout=1).add_stream(config)
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
                return False
            finally:
                await client.close()
            return True

        return asyncio.run(ask())

    @property
    def url(self) -> str:
        """All of them, with commas."""
        return ",".join(node.url for node in self.nodes)


class Way:
    """A way to a port of loopback that a test closes and opens. Closed, it refuses connections."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Way:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Carry connections from now on, on the port it had before."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Reset what is open, and carry nothing more."""
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()
            self._carrying.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    raise ConnectionResetError


def free_port() -> int:
    """A port of loopback that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@dataclass
class Post:
    """One gateway: an edge, its runs, its control plane, and a function ``fn`` whose handler a test gives."""

    edge: Edge
    runs: Runs
    client: NatsClient
    provider: MemoryProvider
    port: int
    private: str
    intake: Intake
    worker: Worker | None
    queue: QueueNumbers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self) -> httpx.AsyncClient:
        """A client of this gateway."""
        return httpx.AsyncClient(base_url=self.url, timeout=30)

    async def record(self, run: str) -> dict[str, Any]:
        """What the API shows of a run."""
        async with self.http() as http:
            reply = await http.get(f"/run/{run}")
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return found

    async def wait_record(
        self, run: str, is_so: Callable[[dict[str, Any]], bool], *, limit_s: float = 10.0
    ) -> dict[str, Any]:
        """The run's record once it is so."""
        async with asyncio.timeout(limit_s):
            while not is_so(record := await self.record(run)):
                await asyncio.sleep(0.01)
        return record


@contextlib.asynccontextmanager
async def post(
    nats_url: str,
    handler: Handler,
    *,
    node: str = "",
    annotations: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> AsyncIterator[Post]:
    """A gateway on this NATS. Left as one that is stopped.

    Args:
        node: The name that tells its state directory from others; empty: one of its own.
        annotations: Of the function, beside the one that has it recorded.
    """
    settings = load({"metrics_port": "off", **(flags or {})}, env={})
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tr-")))
        client = await nats.connect(
            nats_url.split(","), allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=0.05,
            error_cb=_ignore,
        )  # fmt: skip
        stack.push_async_callback(client.close)
        runs = Runs(client, gateway_name(node or secrets.token_hex(8)), settings)
        await _start(runs, copies=3 if "," in nats_url else 1)
        stack.push_async_callback(runs.aclose)
        provider = MemoryProvider(handler)
        stack.push_async_callback(provider.aclose)
        table, logs = Table(), LogStore(100)
        reconciler = Reconciler(table, provider, logs)
        stack.push_async_callback(reconciler.aclose)
        bundles, counted = BundleStore(folder / "bundles", limit_bytes=1), QueueNumbers()
        private = str(folder / "private.sock")
        copied = replace(settings, runs_copies=3 if "," in nats_url else 1)
        opening = open_queue(runs, copied, folder, Path(private), counted)
        queue = await stack.enter_async_context(opening)
        assert queue is not None
        parts = Parts(
            settings, table, reconciler, provider, bundles, logs, _prune, time.monotonic, runs, None, queue,
        )  # fmt: skip
        await stack.enter_async_context(serving(build_app(parts, None), folder / "control.sock"))
        edge = Edge(table, settings, Address(path=str(folder / "control.sock")), runs=runs)
        stack.push_async_callback(edge.aclose)
        spec = FunctionSpec(
            FunctionName("fn"), "image", "0" * 64, annotations={**RECORDED, **(annotations or {})}
        )
        await reconciler.deploy(spec, is_there=False)
        function = table.get(spec.name)
        assert function is not None
        await function.settled.wait()
        sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        await listen(edge, sock)
        await listen_private(edge, private)
        worker = await stack.enter_async_context(working_here(queue, table, lambda: edge.settings))
        port = sock.getsockname()[1]
        yield Post(edge, runs, client, provider, port, private, queue.intake, worker, counted)


async def _start(runs: Runs, *, copies: int) -> None:
    """A cluster that has just begun has no leader yet."""
    async with asyncio.timeout(20):
        while True:
            try:
                await runs.start(replace(BOUNDS, copies=copies))
            except RunsUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def _ignore(_: Exception) -> None:
    """What a client tells of its connection: the tests break it themselves."""


async def _prune(_: object) -> None:
    """There are no bundles."""


NATIVE = {"Content-Type": "text/event-stream", "X-Tailrace-Dialect": "native"}


class Talker:
    """A handler whose answers are native streams of numbers, and what became of its calls.

    Attributes:
        starts: Calls begun.
        stopped: Calls that were cancelled before their end.
    """

    def __init__(self, count: int, *, gap_s: float = 0.0, padding: int = 0) -> None:
        self.count = count
        self.gap_s = gap_s
        self.padding = padding
        self.calls: list[MemoryCall] = []
        self.stopped = 0
        # Set: go on to the end without pauses.
        self.hurry = asyncio.Event()

    @property
    def starts(self) -> int:
        return len(self.calls)

    async def __call__(self, call: MemoryCall) -> MemoryReply:
        self.calls.append(call)
        return MemoryReply(headers=NATIVE, body=self._talk())

    async def wait_stopped(self) -> None:
        """Wait until a call was cancelled; it sees with its next event that nobody is there."""
        async with asyncio.timeout(5):
            while not self.stopped:
                await asyncio.sleep(0.001)

    async def _talk(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.count):
                yield b"data: %d%b\n\n" % (number, b"." * self.padding)
                if self.gap_s and not self.hurry.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.gap_s):
                            await self.hurry.wait()
            yield END
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped += 1
            raise

    def whole(self, run: str) -> bytes:
        """The answer as every client of this run has it."""
        pieces = [b"data: %d%b\n\n" % (number, b"." * self.padding) for number in range(self.count)]
        return b"".join(b"id: %b-%d\n%b" % (run.encode(), at + 1, p) for at, p in enumerate([*pieces, END]))


END = b"event: end\ndata: {}\n\n"


class Client:
    """One HTTP/1.1 request on a connection of its own, read as it comes, and cut as a test likes."""

    def __init__(self, port: int, target: str, *, method: str = "GET", body: bytes = b"",
                 headers: Mapping[str, str] | None = None) -> None:  # fmt: skip
        self._port = port
        lines = {
            "Host": "127.0.0.1",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
        self._decoder = ChunkedDecoder()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_whole = False

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        self._writer.write(data)

    def cut(self) -> None:
        """Leave at once."""
        self._writer.transport.abort()

    def pause(self) -> None:
        """Take nothing more for now."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it

    def resume(self) -> None:
        """Take what comes again."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above

    async def read_head(self) -> None:
        """Wait for status and headers."""
        if not self.status:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            self.status = int(head[0].split(" ")[1])
            pairs = (line.partition(": ") for line in head[1:-2])
            self.headers = {name.lower(): value for name, _, value in pairs}

    @property
    def run(self) -> str:
        return self.headers["x-call-id"]

    async def read_some(self) -> bool:
        """Wait for more of the body; False at its end, or when the connection was cut."""
        await self.read_head()
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            return False
        if not data:
            self.is_whole = self.is_whole or "content-length" in self.headers
            return False
        if "transfer-encoding" in self.headers:
            self.body += self._decoder.feed(data)
            self.is_whole = self._decoder.is_done
            return not self.is_whole
        self.body += data
        return True

    async def read_until(self, mark: bytes) -> None:
        """Read until the body has this in it."""
        while mark not in self.body:
            assert await self.read_some(), f"the body ended without {mark!r}: {self.body[-300:]!r}"

    async def read_all(self) -> bytes:
        """The whole body, or what came of it."""
        while await self.read_some():
            pass
        return self.body

    @property
    def events(self) -> bytes:
        """The complete events of what has come."""
        return self.body[: self.body.rfind(b"\n\n") + 2] if b"\n\n" in self.body else b""
