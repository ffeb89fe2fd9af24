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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nats
from nats.aio.client import Client

from tailrace.build.store import BundleStore
from tailrace.control.app import build_app
from tailrace.control.parts import Parts
from tailrace.control.serve import serving
from tailrace.edge.listener import listen, listen_private
from tailrace.edge.plane import Edge
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address
from tailrace.provider.memory import Handler, MemoryProvider
from tailrace.runs.keeper import Runs
from tailrace.runs.peers import gateway_name
from tailrace.runs.store import Bounds
from tailrace.settings import load

BIN = Path(sys.executable).parent / "nats-server"
BOUNDS = Bounds(max_age_s=172_800, max_bytes=1 << 28)
RECORDED = {"com.tailrace.stream.record": "true"}


@dataclass
class NatsServer:
    """A nats-server with JetStream on a free port of loopback, its store below a folder."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = -1

    def start(self) -> None:
        """Start it, on the port it had before."""
        ports = self.folder / "ports"
        ports.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [BIN, "-js", "-sd", self.folder / "store", "-a", "127.0.0.1", "-p", str(self.port),
             "--ports_file_dir", ports],
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


@dataclass
class Post:
    """One gateway: an edge, its runs, its control plane, and a function ``fn`` whose handler a test gives."""

    edge: Edge
    runs: Runs
    client: Client
    provider: MemoryProvider
    port: int
    private: str

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

    async def wait_record(self, run: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The run's record once it is so (10 s at most)."""
        async with asyncio.timeout(10):
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
            nats_url, allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=0.05,
            error_cb=_ignore,
        )  # fmt: skip
        stack.push_async_callback(client.close)
        runs = Runs(client, gateway_name(node or secrets.token_hex(8)), lambda: settings)
        await runs.start(BOUNDS)
        stack.push_async_callback(runs.aclose)
        provider = MemoryProvider(handler)
        stack.push_async_callback(provider.aclose)
        table, logs = Table(), LogStore(100)
        reconciler = Reconciler(table, provider, logs)
        stack.push_async_callback(reconciler.aclose)
        bundles = BundleStore(folder / "bundles", limit_bytes=1)
        parts = Parts(settings, table, reconciler, provider, bundles, logs, _prune, time.monotonic, runs)
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
        private = str(folder / "private.sock")
        await listen_private(edge, private)
        yield Post(edge, runs, client, provider, sock.getsockname()[1], private)


async def _ignore(_: Exception) -> None:
    """What a client tells of its connection: the tests break it themselves."""


async def _prune(_: object) -> None:
    """There are no bundles."""


def events(count: int, *, gap_s: float = 0.0) -> AsyncIterator[bytes]:
    """So many events of a native stream, and its end."""

    async def generate() -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"data: %d\n\n" % number
            if gap_s:
                await asyncio.sleep(gap_s)
        yield b"event: end\ndata: {}\n\n"

    return generate()


NATIVE = {"Content-Type": "text/event-stream", "X-Tailrace-Dialect": "native"}
