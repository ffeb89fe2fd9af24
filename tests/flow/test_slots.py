"""Behaviour 12: whatever callers do to their calls, the place on the replica comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import httpx
import pytest

from tailrace.functions.table import Function
from tests.kit.gateway import Town, running_town
from tests.kit.loops import run
from tests.kit.metrics import wait_scrape
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow

CALLS = 500
AT_ONCE = 30
# 30 s by default.
STALL_S = 1.0
PHASES = ("connect", "head", "upload", "call", "stream")
GAUGES = ("gateway_function_invocation_inflight", "tailrace_queue_depth", "tailrace_open_streams")

SYNC = """
import json, time
from flask import Response

def handle(req):
    wish = json.loads(req)
    time.sleep(wish["think"])
    def tell():
        for n in range(wish["count"]):
            yield "data: " + "x" * wish["size"] + "\\n\\n"
            time.sleep(wish["gap"])
    return Response(tell(), mimetype="text/event-stream")
"""
ASYNC = """
import asyncio, json

async def handle(event, context):
    wish = json.loads(event.body)
    await asyncio.sleep(wish["think"])
    for n in range(wish["count"]):
        yield "x" * wish["size"]
        await asyncio.sleep(wish["gap"])
"""
HANDLERS = {"sync": (SYNC, "python3-flask"), "async": (ASYNC, "python3-stream")}
SHORT = {"think": 0.005, "count": 3, "size": 10, "gap": 0.005}
ENDLESS = {"think": 0, "count": 100_000, "size": 10_000, "gap": 0}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Functions that answer one call at a time."""
    with running_town(tmp_path_factory.mktemp("town"), flags={"stall_timeout_s": STALL_S}) as town:
        for name, (source, lang) in HANDLERS.items():
            status = town.deploy(name, source, lang=lang, env={"max_inflight": "1"})
            assert status.get("availableReplicas") == 1, status
        yield town


def function(town: Town, name: str) -> Function:
    return next(f for f in town.gateway.table if f.name.name == name)


def request(name: str, wish: Mapping[str, float]) -> tuple[bytes, bytes]:
    """Head and body of a call."""
    body = json.dumps(wish).encode()
    return b"POST /function/%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (
        name.encode(),
        len(body),
    ), body


async def abuse(town: Town, name: str, rng: random.Random) -> str:
    """One call that is left at some moment in some way; how far it had come."""
    phase = rng.choice(PHASES)
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    head, body = request(name, SHORT)
    if phase == "head":
        writer.write(head[: rng.randrange(1, len(head))])
    elif phase == "upload":
        writer.write(head + body[: rng.randrange(len(body))])
    elif phase in ("call", "stream"):
        writer.write(head + body)
    answer = b""
    if phase == "stream":
        answer = await reader.read(1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(rng.choice((0, 0.01, 0.1, 0.5)) * rng.random()):
            while not answer.endswith(b"0\r\n\r\n"):
                answer += await reader.read(rng.choice((1, 100, 65536)))
    await leave(writer, rng.choice(("close", "reset", "half")))
    if phase in ("connect", "head", "upload"):
        return phase
    return "done" if answer.endswith(b"0\r\n\r\n") else "midway" if answer else "waiting"


async def leave(writer: asyncio.StreamWriter, how: str) -> None:
    """Close a connection, by a reset if wished, or with a pause between its two directions."""
    if how == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half":
        writer.write_eof()
        await asyncio.sleep(0.05)
    writer.transport.abort()


@pytest.mark.parametrize("name", HANDLERS)
def test_500_aborted_calls_leave_every_place_free(town: Town, name: str) -> None:
    """At random moments of every phase, with one place: nothing is left, and the next call is answered."""
    rng = random.Random(12)
    handle = function(town, name).ready[0].handle
    found: Counter[str] = Counter()

    async def main() -> None:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> None:
            async with at_once:
                found[await abuse(town, name, random.Random(seed))] += 1

        await asyncio.gather(*(one(rng.randrange(1 << 30)) for _ in range(CALLS)))

    run(main())

    assert {"connect", "head", "upload", "waiting", "midway", "done"} == set(found)
    assert min(found.values()) >= 5, found
    assert_all_free(town, name)
    assert function(town, name).ready[0].handle is handle, "its replica was not replaced"


@pytest.mark.parametrize("name", HANDLERS)
def test_a_client_that_stops_reading_gives_its_place_back(town: Town, name: str) -> None:
    """After `stall_timeout_s`: so long at most the next call waits."""
    head, body = request(name, ENDLESS)
    with socket.create_connection(("127.0.0.1", town.port)) as sock:
        sock.sendall(head + body)
        assert sock.recv(1024).startswith(b"HTTP/1.1 200")

        began = time.monotonic()
        reply = httpx.post(f"{town.url}/function/{name}", json=SHORT, timeout=30)
        took_s = time.monotonic() - began

        assert (200, 3) == (reply.status_code, reply.text.count("xxxxxxxxxx"))
        assert STALL_S / 2 < took_s < STALL_S + 1
    assert_all_free(town, name)


def assert_all_free(town: Town, name: str) -> None:
    """The table and the gauges are at zero, each call has ended once, and another one is answered."""
    replica = function(town, name).ready[0]
    wait_until(lambda: not replica.in_flight and not function(town, name).waiting, "every place is free")
    wait_until(lambda: not town.gateway.edge.open_calls, "every call has ended")
    found = wait_scrape(town.gateway.metrics.url, lambda s: not any(s.value(gauge) for gauge in GAUGES))
    label = f"{name}.openfaas-fn"
    started = found.value("gateway_function_invocation_started", function_name=label)
    assert started == found.value("tailrace_calls_total", function_name=label)
    assert 200 == httpx.post(f"{town.url}/function/{name}", json=SHORT, timeout=30).status_code
