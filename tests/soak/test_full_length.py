"""What streams promise, with the durations that people meet: behaviours 7, 8, 12 and 13 at full length.

The same promises are held in tests/flow and tests/edge with the clocks set to a fraction.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from httpx_sse import connect_sse

from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town
from tests.kit.nginx import stock_nginx
from tests.kit.patience import wait_until
from tests.kit.served import Serve

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

TICKS = """
import asyncio

async def handle(event, context):
    for n in range(int(event.query["n"])):
        yield str(n)
        await asyncio.sleep(float(event.query["gap"]))
"""
SILENT = """
import time

def handle(req):
    time.sleep(80)
    return "at last"
"""
# Slow to load, and then silent for as long as a reasoning model may be.
CHAT = """
import asyncio, json, time
time.sleep(20)

async def handle(event, context):
    context.content_type = "text/event-stream"
    ids = event.query.get("ids") == "yes"
    def chunk(n):
        delta = {"content": f"{n} "}
        body = {"object": "chat.completion.chunk", "id": "c", "created": 0, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        return ((f"id: {n}\\n" if ids else "") + f"data: {json.dumps(body)}\\n\\n").encode()
    yield chunk(0)
    await asyncio.sleep(150)
    for n in range(1, 5):
        yield chunk(n)
    yield b"data: [DONE]\\n\\n"
"""
FLOOD = """
from pathlib import Path

async def handle(event, context):
    context.content_type = "application/octet-stream"
    seen = Path(event.query["seen"])
    for n in range(1600):
        seen.write_text(str(n * 65536))
        yield bytes(65536)
"""
SLOT = """
import asyncio

async def handle(event, context):
    while event.query.get("flood"):
        yield bytes(65536)
    for n in range(10):
        yield str(n)
        await asyncio.sleep(0.02)
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway with its defaults."""
    with running_town(tmp_path_factory.mktemp("town")) as town:
        yield town


def test_a_stream_of_an_event_a_second_lives_for_ten_minutes(town: Town) -> None:
    """`idle=2s` and no total: what speaks in time is never ended."""
    idle = {"com.tailrace.timeout.idle": "2s"}
    town.deploy("ticks", TICKS, lang="python3-stream", annotations=idle)

    arrivals = []
    with httpx.stream("GET", f"{town.url}/function/ticks?n=600&gap=1", timeout=30) as reply:
        for line in reply.iter_lines():
            assert "error" not in line
            arrivals += [time.monotonic()] * line.startswith("data: ")

    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert 600 <= len(arrivals) <= 601, "the events, and the data of the end"
    assert max(gaps) < 2.0
    assert arrivals[-1] - arrivals[0] >= 599


def test_exec_timeout_of_90_s_lets_a_handler_be_silent_for_80(town: Town) -> None:
    """That one setting, end to end, though every default is 60 s."""
    town.deploy("silent", SILENT, env={"exec_timeout": "90s"})

    reply = httpx.get(f"{town.url}/function/silent", timeout=120)

    assert (200, "at last") == (reply.status_code, reply.text)


def chunks_with_openai(url: str, ids: str) -> str:
    """The text that OpenAI's own client reads."""
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=300, default_query={"ids": ids})
    stream = client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": "think"}]
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def chunks_with_httpx(url: str, ids: str) -> str:
    """The text that httpx-sse reads."""
    with (
        httpx.Client(timeout=300) as http,
        connect_sse(http, "GET", url, params={"ids": ids}) as source,
    ):
        told = [event.data for event in source.iter_sse() if event.data]
    assert "[DONE]" == told.pop()
    return "".join(json.loads(data)["choices"][0]["delta"]["content"] for data in told)


@pytest.mark.parametrize("ids", ["no", "yes"])
def test_a_long_silence_behind_a_stock_nginx_is_survived(town: Town, tmp_path: Path, ids: str) -> None:
    """150 s without a word after a cold start of 20 s; nginx gives up on 60 s without a byte."""
    name = f"thinker-{ids}"
    clocks = {
        "com.tailrace.timeout.idle": "300s",
        "com.tailrace.timeout.queue": "120s",
        "com.tailrace.stream.early-head": "on",
    }
    town.deploy(name, CHAT, lang="python3-stream", annotations=clocks, is_waiting=False)
    readers: tuple[Callable[[str, str], str], ...] = (chunks_with_openai, chunks_with_httpx)

    began = time.monotonic()
    with stock_nginx(tmp_path, town.url) as url, ThreadPoolExecutor(len(readers)) as pool:
        readings = [pool.submit(read, f"{url}/function/{name}", ids) for read in readers]
        found = [reading.result(400) for reading in readings]

    assert time.monotonic() - began > 150
    assert ["0 1 2 3 4 "] * len(readers) == found


def test_no_place_leaks_when_500_callers_leave_in_every_phase(town: Town) -> None:
    """One place; callers that leave at any moment; one that stops reading. Then the place is free."""
    annotations = {"com.tailrace.concurrency.max": "1", "com.tailrace.timeout.queue": "60s"}
    town.deploy("slot", SLOT, lang="python3-stream", annotations=annotations)
    rng = random.Random(12)

    async def leave(turn: asyncio.Semaphore) -> None:
        async with turn:
            await _call_and_leave(town.port, rng)

    async def main() -> None:
        turn = asyncio.Semaphore(12)
        await asyncio.gather(*(leave(turn) for _ in range(500)))

    asyncio.run(main())
    numbers = town.gateway.edge.numbers.of("slot.openfaas-fn")
    wait_until(lambda: numbers.in_flight == 0, "every place is given back", 10)
    with _stalled(town.port, "/function/slot?flood=yes"):
        wait_until(lambda: numbers.in_flight == 1, "the stalled caller has the place", 10)
        began = time.monotonic()
        reply = httpx.get(f"{town.url}/function/slot", timeout=100)
        waited_s = time.monotonic() - began

    assert 200 == reply.status_code
    assert 10 == len(re.findall(r"^data: \d$", reply.text, re.MULTILINE))
    assert waited_s <= 30 + 10, "stall_timeout_s from the last look at which it had still taken something"
    wait_until(lambda: numbers.in_flight == 0, "the stalled caller's place came back", 10)


async def _call_and_leave(port: int, rng: random.Random) -> None:
    """One caller: sends all or some of its request, waits a while or reads, and leaves by FIN or RST."""
    request = b"POST /function/slot HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    phase = rng.randrange(4)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request[: rng.randrange(len(request))] if phase == 0 else request)
        if phase == 3:
            await asyncio.wait_for(reader.read(rng.randrange(1, 400)), 60)
        await asyncio.sleep(rng.random() * 0.3)
        if rng.randrange(2):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
    finally:
        writer.close()


class _stalled:
    """A caller that asks and never reads, until the context is left."""

    def __init__(self, port: int, path: str) -> None:
        self._sock = _narrow_socket(port)
        self._sock.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        self._sock.close()


def _narrow_socket(port: int) -> socket.socket:
    """A connection whose own buffer holds little, so that not reading is felt at the other end."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", port))
    return sock


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_reader_of_1_kb_a_second_costs_no_memory(tmp_path: Path) -> None:
    """100 MB before a slow reader, for two minutes: the generator waits, and the reader is not cut."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    seen = tmp_path / "seen"
    with serve.start() as (running, url):
        serve.deploy(url, "flood", FLOOD)
        httpx.get(f"{url}/function/flood", params={"seen": str(seen)}, timeout=60)
        pid, port = running.process.pid, int(url.rpartition(":")[2])
        before = _rss_bytes(pid)

        sock = _narrow_socket(port)
        sock.sendall(b"GET /function/flood?seen=%b HTTP/1.1\r\nHost: a\r\n\r\n" % str(seen).encode())
        sizes, made = [], []
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert sock.recv(1024), "the reader was cut"
            sizes.append(_rss_bytes(pid) - before)
            made.append(int(seen.read_text() or 0))
            threading.Event().wait(1)
        sock.close()

    assert max(sizes) < 2 << 20
    assert made[-1] < 16 << 20, "the generator runs ahead"
    assert made[-1] - made[len(made) // 2] < 1 << 20, "the generator does not wait"
