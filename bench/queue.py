"""1,000 asynchronous calls: how fast they are taken in, how fast the queue is drained, and what they cost.

A real ``tailrace serve`` with its own NATS and worker; the function answers at once, so that what is weighed
is the queue. Called by ``bench.runs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.machine import Child, child, cpu_s, family, memory_kib
from tailrace.build.bundle import pack_folder

CALLS = 1_000
CALLERS = 16
LOOK_S = 0.05
LIMIT_S = 300.0
_HANDLER = "async def handle(event, context):\n    yield 'ok'\n"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Child, str]]:
    """A gateway, and its URL."""
    state = folder / "state"
    program = [
        str(Path(sys.executable).with_name("tailrace")),
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "off",
    ]
    with child([*program, "--state-dir", str(state), "--log-format", "off"]) as process:
        while "listening on" not in (line := process.line()):
            pass
        yield process, line.rpartition(" ")[2].strip()


def deploy(url: str, folder: Path) -> None:
    """The function, ready."""
    (folder / "handler.py").write_text(_HANDLER)
    bundle = pack_folder(folder, lang="python3-stream", limit_bytes=1 << 20)
    with httpx.Client(base_url=url, timeout=60) as http:
        params = {"image": "fn:latest"}
        http.put(f"/system/bundles/{bundle.digest}", params=params, content=bundle.data).raise_for_status()
        http.post("/system/functions", json={"service": "fn", "image": "fn:latest"}).raise_for_status()
        status = http.get("/system/function/fn", params={"wait": "55"}).json()
    assert status.get("availableReplicas") == 1, status


async def _hand_in(url: str) -> float:
    """All calls, over a few connections; seconds it took."""
    left = iter(range(CALLS))

    async def caller(http: httpx.AsyncClient) -> None:
        for number in left:
            reply = await http.post("/async-function/fn", content=b"%d" % number)
            assert reply.status_code == 202, reply.text

    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await asyncio.gather(*(caller(http) for _ in range(CALLERS)))
    return time.perf_counter() - began


def _invoked(http: httpx.Client) -> int:
    return int(http.get("/system/functions").json()[0].get("invocationCount", 0))


def drain(folder: Path) -> None:
    """Hand in, wait until the last is over, and print."""
    folder.mkdir()
    with serving(folder) as (process, url):
        deploy(url, folder)
        pids = family(process.pid)
        idle, cpu = memory_kib(pids), cpu_s(pids)
        began = time.perf_counter()
        took_in = asyncio.run(_hand_in(url))
        most = memory_kib(pids)
        with httpx.Client(base_url=url, timeout=60) as http:
            while _invoked(http) < CALLS:
                assert time.perf_counter() - began < LIMIT_S, "the queue was not drained"
                time.sleep(LOOK_S)
                most = max(most, memory_kib(pids))
        took, used = time.perf_counter() - began, cpu_s(pids) - cpu
    rates = f"taken in at {CALLS / took_in:,.0f}/s, over after {took:.1f} s ({CALLS / took:,.0f}/s)"
    costs = f"{used / CALLS * 1e3:.1f} ms of CPU per call, {(most - idle) / 1024:.0f} MiB more"
    print(f"{CALLS:,} queued calls: {rates}; {costs}, gateway, NATS and replica together")
