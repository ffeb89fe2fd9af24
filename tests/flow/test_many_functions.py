"""A hundred functions on one machine, and a control plane that never holds up the streams."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tailrace.build.bundle import pack_folder
from tailrace.control.metrics.snapshot import read_usage
from tests.kit.cli import Shell
from tests.kit.gateway import Town

pytestmark = pytest.mark.slow
# Asleep until the first call: what is weighed is the gateway, not a hundred Pythons.
ASLEEP = {"com.openfaas.scale.min": "0"}
HANDLER = "def handle(req):\n    return 'awake'\n"
FEW_MS = 20.0
DEPLOYS = """
import hashlib, pathlib, sys
from concurrent.futures import ThreadPoolExecutor
import httpx

def deploy(tar):
    data = tar.read_bytes()
    digest, image = hashlib.sha256(data).hexdigest(), tar.stem + ":latest"
    http.put(f"/system/bundles/{digest}", params={"image": image}, content=data).raise_for_status()
    body = {"service": tar.stem, "image": image, "labels": {"com.openfaas.scale.min": "0"}}
    if http.put("/system/functions", json=body).status_code == 404:
        http.post("/system/functions", json=body).raise_for_status()

http = httpx.Client(base_url=sys.argv[1], timeout=60)
with ThreadPoolExecutor(20) as pool:
    list(pool.map(deploy, pathlib.Path(sys.argv[2]).glob("*.tar")))
"""


def put(http: httpx.Client, folder: Path, name: str) -> None:
    """Upload the folder and deploy it under a name."""
    bundle = pack_folder(folder, lang="python3-flask", limit_bytes=8 << 20)
    image = f"{name}:latest"
    http.put(
        f"/system/bundles/{bundle.digest}", params={"image": image}, content=bundle.data
    ).raise_for_status()
    http.post(
        "/system/functions", json={"service": name, "image": image, "labels": ASLEEP}
    ).raise_for_status()


def test_a_hundred_functions_are_listed_at_once(tmp_path: Path) -> None:
    """In less than 200 ms, by a gateway of less than 300 MB; and each of them answers."""
    folder = tmp_path / "fn"
    folder.mkdir()
    (folder / "handler.py").write_text(HANDLER)
    with Shell(tmp_path).start("serve", "--port", "0", "--state-dir", "state") as serve:
        url = serve.wait_for(r"^tailrace .*(http://127\.0\.0\.1:\d+)$")[1]
        http = httpx.Client(base_url=url, timeout=60)
        for number in range(100):
            put(http, folder, f"fn-{number}")
        http.get("/system/functions")
        began = time.perf_counter()
        listed = http.get("/system/functions").json()
        took_s = time.perf_counter() - began
        usage = read_usage(serve.process.pid)
        answer = http.post("/function/fn-57").text
        http.close()

    assert 100 == len(listed)
    assert took_s < 0.2
    assert usage is None or usage.resident_bytes < 300e6
    assert "awake" == answer


def test_twenty_deploys_at_once_hold_up_no_stream(town: Town, tmp_path: Path) -> None:
    """The loop that relays streams is never later than 20 ms (99 of 100 turns) while bundles come in.

    On a machine that does other things too, the best of three tries counts.
    """
    tries = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        _pack_twenty(folder, attempt)
        tries.append(_late_ms(town, folder))
        if tries[-1] <= FEW_MS:
            break

    with town.http() as http:
        assert len(http.get("/system/functions").json()) >= 20
    assert min(tries) <= FEW_MS, tries


def _pack_twenty(folder: Path, attempt: int) -> None:
    """Twenty bundles of a megabyte each, that no store has yet."""
    source = folder / "fn"
    source.mkdir(parents=True)
    for number in range(20):
        (source / "handler.py").write_text(HANDLER)
        (source / "data.bin").write_bytes(bytes([number, attempt]) * 500_000)
        bundle = pack_folder(source, lang="python3-flask", limit_bytes=8 << 20)
        (folder / f"fn-{number}.tar").write_bytes(bundle.data)


def _late_ms(town: Town, folder: Path) -> float:
    """How late the gateway's loop was in 99 of 100 turns, while all bundles of the folder were deployed."""
    late_ms: list[float] = []
    over = threading.Event()

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while not over.is_set():
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            late_ms.append((loop.time() - due) * 1000)

    watching = asyncio.run_coroutine_threadsafe(watch(), town.loop)
    # By another process: one interpreter runs one thread at a time, and the gateway's is to be weighed.
    subprocess.run([sys.executable, "-c", DEPLOYS, town.url, str(folder)], check=True, timeout=60)
    over.set()
    watching.result(10)
    late_ms.sort()
    return late_ms[int(len(late_ms) * 0.99)]
