"""Hundreds of streams at once through one gateway and one replica, for both kinds of handler.

Each stream asks the mock model for 30 tokens at 10 tokens/s. Printed per function: how many completed, how
late the first event and the end were, CPU and memory of gateway and replica.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.load import Streams, quantile, streams
from bench.machine import cpu_s, raise_file_limit, rss_mib

TOKENS, TPS = 30, 10
FLASK = """
import time
from flask import Response

def handle(req):
    def tell():
        for n in range(30):
            yield f"data: token {n}\\n\\n"
            time.sleep(0.1)
    return Response(tell(), mimetype="text/event-stream")
"""
EXAMPLE = Path(__file__).parent.parent / "examples" / "stream-openai" / "stream-openai"


@dataclass(frozen=True)
class Work:
    """One function under load. ``mark`` is what each of its events begins with."""

    name: str
    tokens: int
    body: bytes


def stack(folder: Path) -> Path:
    """A stack file with the example and a Flask generator."""
    (folder / "generator").mkdir()
    (folder / "generator" / "handler.py").write_text(FLASK)
    (folder / "generator" / "requirements.txt").write_text("")
    text = {
        "provider": {"name": "openfaas"},
        "functions": {
            "stream-openai": {
                "lang": "python3-stream",
                "handler": str(EXAMPLE),
                "image": "stream-openai:bench",
                "secrets": ["openai-api-key"],
                "environment": {"OPENAI_MODEL": f"mock?ttft=0&tps={TPS}&tokens={TOKENS}"},
            },
            "generator": {"lang": "python3-flask", "handler": "./generator", "image": "generator:bench"},
        },
    }
    path = folder / "stack.yaml"
    path.write_text(json.dumps(text))
    return path


def status(port: int, name: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/system/function/{name}", timeout=10) as reply:
        found: dict[str, object] = json.load(reply)
        return found


def wait_ready(up: subprocess.Popen[str], names: set[str]) -> int:
    """Read `tailrace up`'s words until all functions are ready; the port it took."""
    assert up.stdout is not None
    port, ready = 0, set()
    for line in up.stdout:
        print(f"  {line}", end="")
        for word in line.split():
            if word.startswith("http://127.0.0.1:") and not port:
                port = int(word.split(":")[2].split("/")[0])
        ready |= {name for name in names if line.startswith(f"{name} ") and "(import" in line}
        if ready == names:
            return port
    sys.exit("`tailrace up` ended")


def drive(port: int, work: Work, count: int) -> tuple[Streams, float]:
    head = b"POST /function/%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    request = head % (work.name.encode(), len(work.body)) + work.body
    began = time.monotonic()
    seen = uvloop.run(streams(port, count=count, request=request, limit_s=120))
    return seen, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="streams at once")
    args = parser.parse_args()
    raise_file_limit()
    works = [Work("stream-openai", TOKENS, b"hello"), Work("generator", 30, b"hello")]
    with tempfile.TemporaryDirectory(prefix="tr-bench-") as name:
        folder = Path(name)
        command = [str(Path(sys.executable).parent / "tailrace"), "up", "--llm", "mock", "--port", "0"]
        command += ["-f", str(stack(folder)), "--state-dir", str(folder / "state")]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        ) as up:
            try:
                port = wait_ready(up, {work.name for work in works})
                failed = [work.name for work in works if not report(port, up.pid, work, args.count)]
            finally:
                up.send_signal(2)
                up.communicate(timeout=10)
    if failed:
        sys.exit(f"not every stream of {', '.join(failed)} completed")


def report(port: int, gateway: int, work: Work, count: int) -> bool:
    """Measure one function and print it; whether every stream completed."""
    tailrace = status(port, work.name)["tailrace"]
    assert isinstance(tailrace, dict)
    replica = int(tailrace["replicas"][0]["pid"])
    before = {pid: (cpu_s([pid]), rss_mib(pid)) for pid in (gateway, replica)}
    peak = dict.fromkeys(before, 0.0)
    seen, took_s = asyncio.run(_watched(port, work, count, peak))
    print(f"\n{work.name}: {count} streams at once, {work.tokens} tokens at {TPS}/s")
    print(f"  completed {seen.completed}, broken {seen.broken}, events {seen.events}, in {took_s:.1f} s")
    print(
        f"  first event after {quantile(seen.first_s, 0.5) * 1e3:.0f} ms (median), "
        f"{quantile(seen.first_s, 0.99) * 1e3:.0f} ms (p99); "
        f"end after {quantile(seen.last_s, 0.5):.2f} s (median), {quantile(seen.last_s, 0.99):.2f} s (p99)"
    )
    for who, pid in (("gateway (and mock)", gateway), ("replica", replica)):
        cpu, memory = before[pid]
        print(
            f"  {who:19} {(cpu_s([pid]) - cpu) / max(1, seen.events) * 1e6:6.1f} us CPU per event, "
            f"memory {memory:.0f} -> {peak[pid]:.0f} MiB "
            f"({(peak[pid] - memory) * 1024 / count:.0f} KiB per stream)"
        )
    return seen.completed == count


async def _watched(port: int, work: Work, count: int, peak: dict[int, float]) -> tuple[Streams, float]:
    """Drive the load in a thread and watch the processes' memory meanwhile."""
    driving = asyncio.create_task(asyncio.to_thread(drive, port, work, count))
    while not driving.done():
        for pid in peak:
            peak[pid] = max(peak[pid], rss_mib(pid))
        await asyncio.wait([driving], timeout=0.25)
    return await driving


if __name__ == "__main__":
    main()
