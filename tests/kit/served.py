"""`tailrace serve` as a process, with functions that an earlier start of it has deployed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.kit.cli import Running, Shell
from tests.kit.gateway import deploy


@dataclass(frozen=True)
class Serve:
    """Starts gateways, one after the other, on one state directory."""

    shell: Shell
    state: Path

    @contextmanager
    def start(self, *flags: str, pass_fds: tuple[int, ...] = ()) -> Iterator[tuple[Running, str]]:
        """A gateway that listens, and its URL; 127.0.0.1 and a free port without other flags."""
        port = () if pass_fds else ("--port", "0")
        args = ["serve", "--state-dir", str(self.state), "--metrics-port", "off", *port, *flags]
        with self.shell.start(*args, pass_fds=pass_fds) as running:
            yield running, running.wait_for(r"^tailrace +listening on (\S+)$")[1]

    def deploy(self, url: str, name: str, handler: str, *, lang: str = "python3-stream") -> None:
        """Deploy a function from its source and wait until it is ready."""
        folder = self.shell.folder / name
        folder.mkdir()
        (folder / "handler.py").write_text(handler)
        (folder / "requirements.txt").write_text("")
        with httpx.Client(base_url=url, timeout=60) as http:
            status = deploy(http, folder, lang=lang)
        assert status.get("availableReplicas") == 1, status


@contextmanager
def working(
    shell: Shell, nats_url: str, gateway_url: str, *flags: str, metrics: str = "off"
) -> Iterator[Running]:
    """`tailrace worker` that takes calls."""
    args = ("--nats-url", nats_url, "--gateway-url", gateway_url, "--metrics-port", metrics, *flags)
    with shell.start("worker", *args) as worker:
        worker.wait_for(r"serves the queues")
        yield worker


def replicas_of(state: Path) -> list[int]:
    """Processes whose home lies in the state directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environ = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"HOME={state}/replicas/".encode() in environ:
                found.append(int(process.name))
    return found


class Caller:
    """One connection to a gateway, driven by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.text = ""

    @classmethod
    async def connect(cls, url: str) -> Caller:
        """Connected, and nothing sent."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    @classmethod
    async def stream(cls, url: str, path: str) -> Caller:
        """A stream whose first event has come."""
        caller = await cls.connect(url)
        caller.ask(path)
        await caller.read_until("data: ")
        return caller

    def ask(self, path: str) -> None:
        """Send a GET request."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def read_until(self, mark: str) -> None:
        """Read until the text holds the mark; fails with the text where it ends before."""
        while mark not in self.text:
            piece = await self.reader.read(65536)
            assert piece, f"{mark!r} never came; the text was:\n{self.text}"
            self.text += piece.decode()

    async def read_rest(self) -> str:
        """The whole text, once the connection is closed."""
        while piece := await self.reader.read(65536):
            self.text += piece.decode()
        self.close()
        return self.text

    def close(self) -> None:
        self.writer.close()
