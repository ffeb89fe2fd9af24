"""``usage=1``: what a function's replicas use, with every process that they started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tailrace.control.usage import read_used
from tests.kit.gateway import Town

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process uses"),
]
# A child that works and holds memory; a grandchild that waits for its end, in a session of its own.
HANDLER = """
import subprocess
import sys

CHILD = '''
import subprocess, sys
child = "import sys; held = b'x' * 30_000_000; print(1, flush=True); sys.stdin.read()"
started = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdin=subprocess.PIPE)
held = b"x" * 60_000_000
while True:
    pass
'''
children = []

def handle(req):
    if req == "start":
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
        child.stdout.readline()
        children.append(child)
    elif req == "stop":
        child = children.pop()
        child.kill()
        child.wait()
    return "ok"
"""


def usage(http: httpx.Client, name: str) -> dict[str, float]:
    found: dict[str, float] = http.get(f"/system/function/{name}", params={"usage": "1"}).json()["usage"]
    return {"cpu": found.get("cpu", 0), "memory": found.get("totalMemoryBytes", 0)}


def wait_usage(http: httpx.Client, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    until = time.monotonic() + 20
    while not is_so(found := usage(http, "parent")):
        assert time.monotonic() < until, found
    return found


def test_children_of_a_replica_count(town: Town) -> None:
    """The CPU of one that works, the memory of all, also of one in a session of its own; then no more."""
    town.deploy("parent", HANDLER)
    with town.http() as http:
        before = usage(http, "parent")
        http.post("/function/parent", content="start")
        busy = wait_usage(http, lambda now: now["cpu"] > 300 and now["memory"] > before["memory"] + 88e6)
        http.post("/function/parent", content="stop")
        after = wait_usage(http, lambda now: now["memory"] < before["memory"] + 50e6)
        http.request("DELETE", "/system/functions", json={"functionName": "parent"})

    assert before["cpu"] < 300
    assert busy["cpu"] < 4000
    assert after["cpu"] < 300


def process(folder: Path, pid: int, *, parent: int, session: int, ticks: tuple[int, ...], pages: int) -> None:
    """As /proc has it; the name holds what would lead a careless reader astray."""
    (folder / str(pid)).mkdir()
    group = " ".join([str(session)] * 2 + ["0"] * 7)
    used = " ".join(str(n) for n in ticks)
    (folder / str(pid) / "stat").write_text(
        f"{pid} (a) 1 ) b) S {parent} {group} {used} 20 0 1 0 99 4096 {pages} 18446744073709551615"
    )


def test_whose_a_process_is(tmp_path: Path) -> None:
    """A descendant's, or one left in the replica's session; neither a neighbour's nor the gateway's."""
    second = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "self").mkdir()
    (tmp_path / "77").mkdir()  # has ended meanwhile
    process(tmp_path, 1, parent=0, session=1, ticks=(second, 0, 0, 0), pages=1000)
    process(tmp_path, 10, parent=1, session=10, ticks=(second, second, second, second), pages=1)
    process(tmp_path, 11, parent=10, session=11, ticks=(0, second, 0, 0), pages=10)  # setsid
    process(tmp_path, 12, parent=11, session=11, ticks=(0, 0, 0, second), pages=100)
    process(tmp_path, 13, parent=1, session=10, ticks=(0, 0, second, 0), pages=1000)  # its parent has ended
    process(tmp_path, 20, parent=1, session=20, ticks=(second, 0, 0, 0), pages=7)
    process(tmp_path, 21, parent=22, session=22, ticks=(second, 0, 0, 0), pages=7)
    process(tmp_path, 22, parent=21, session=22, ticks=(second, 0, 0, 0), pages=7)  # a circle, of two moments
    (tmp_path / "20" / "smaps_rollup").write_text(
        "0-1 ---p\nRss:      28 kB\nPss:      12 kB\nPss_Anon:  5 kB\n"
    )

    found = read_used([10, 20, 30], tmp_path)

    assert {10, 20} == set(found)
    assert (7.0, 1111 * page) == (found[10].cpu_s, found[10].memory_bytes)
    assert (1.0, 12 * 1024) == (found[20].cpu_s, found[20].memory_bytes)
