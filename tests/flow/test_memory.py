"""Behaviour 13: a slow reader costs no memory, because it sets the pace of the function that it reads."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.served import Serve, replicas_of

pytestmark = pytest.mark.slow

MB = 1_000_000
# What the kernel may hold between a handler and a client that reads nothing: three sockets' buffers.
KERNEL_BYTES = 10 * MB
# 1 KB/s and a client that may take nothing for 30 s, 15 times as fast.
SCALE = 15
STALL_S = 30 / SCALE

SYNC = """
from flask import Response
MADE = 0

def handle(req):
    if req == "made":
        return str(MADE)
    def tell():
        global MADE
        for n in range(10_000):
            MADE += 10_000
            yield b"x" * 10_000
    return Response(tell(), mimetype="application/octet-stream")
"""
ASYNC = """
MADE = 0

async def handle(event, context):
    global MADE
    if event.body == b"made":
        yield str(MADE)
        return
    for n in range(100_000):
        MADE += 1000
        yield "x" * 1000
"""
HANDLERS = {"sync": (SYNC, "python3-flask"), "async": (ASYNC, "python3-stream")}


@dataclass(frozen=True)
class Served:
    """A gateway in a process of its own."""

    url: str
    pid: int
    state: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def replica(self, name: str) -> int:
        """The process that has the function."""
        (pid,) = [pid for pid in replicas_of(self.state) if f"/{name}-" in home_of(pid)]
        return pid


def home_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text().partition("HOME=")[2].partition("\0")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The functions of this module, behind `tailrace serve`."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    folder = tmp_path_factory.mktemp("serve")
    serve = Serve(Shell(folder), folder / "state")
    with serve.start("--stall-timeout-s", f"{STALL_S:g}") as (running, url):
        for name, (source, lang) in HANDLERS.items():
            serve.deploy(url, name, source, lang=lang)
        yield Served(url, running.process.pid, serve.state)


def rss_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def made_bytes(served: Served, name: str) -> int:
    """How much the generator has given so far."""
    text = httpx.post(f"{served.url}/function/{name}", content="made", timeout=30).text
    return int(re.sub(r"\D", "", text.partition("event: end")[0]))


def wait_paused(served: Served, name: str) -> int:
    """How much it has given once it gives no more."""
    while True:
        before = made_bytes(served, name)
        time.sleep(0.3)
        if before == made_bytes(served, name):
            return before


def slow_reader(served: Served, name: str) -> socket.socket:
    """A client with a small buffer that has asked for the 100 MB and read the head."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that 1 KB/s is seen by who sends
    sock.connect(("127.0.0.1", served.port))
    sock.sendall(f"GET /function/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert sock.recv(1024).startswith(b"HTTP/1.1 200")
    return sock


@pytest.mark.parametrize("name", HANDLERS)
def test_a_reader_of_1_kb_per_s_holds_back_100_mb(served: Served, name: str) -> None:
    """Gateway and replica grow by less than 2 MB each, the generator waits, and the reader is not cut."""
    pids = served.pid, served.replica(name)
    with slow_reader(served, name) as sock:  # what a first call loads is not the stream's
        assert sock.recv(1024)
    first = wait_paused(served, name)
    before = [rss_bytes(pid) for pid in pids]

    with slow_reader(served, name) as sock:
        paused_at = wait_paused(served, name)
        assert 0 < paused_at - first < KERNEL_BYTES
        until = time.monotonic() + 2 * STALL_S
        while time.monotonic() < until:
            assert sock.recv(1024), "it was cut"
            time.sleep(1 / SCALE)
        assert made_bytes(served, name) - paused_at < MB, "the generator goes at the reader's pace"
        grown = [rss_bytes(pid) - was for pid, was in zip(pids, before, strict=True)]

    assert max(grown) < 2 * MB, grown
