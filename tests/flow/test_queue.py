"""Behaviour 19: calls that nobody waits for, or for which there is no room, never run."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tailrace.functions.table import Function
from tests.kit.gateway import Town, running_town
from tests.kit.patience import best_s, wait_until

pytestmark = pytest.mark.slow

LIMIT = 10
# Tells what it was called with. "hold FILE" lasts until the file is there.
SOURCE = """
import os, time
CALLS = []

def handle(req):
    word, _, file = req.partition(" ")
    if word == "list":
        return " ".join(CALLS)
    CALLS.append(word)
    while file and not os.path.exists(file):
        time.sleep(0.005)
    return word
"""
STREAM = """
import time
time.sleep(1)

async def handle(event, context):
    yield "hello"
"""
ONE = {"max_inflight": "1"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway in whose queues ten calls may wait, and a function that answers one call at a time."""
    with running_town(tmp_path_factory.mktemp("town"), flags={"queue_limit": LIMIT}) as town:
        status = town.deploy("one", SOURCE, env=ONE)
        assert status.get("availableReplicas") == 1, status
        yield town


def function(town: Town, name: str = "one") -> Function:
    return next(f for f in town.gateway.table if f.name.name == name)


def send(town: Town, body: str, name: str = "one") -> socket.socket:
    """A connection on which a whole call was sent."""
    sock = socket.create_connection(("127.0.0.1", town.port), 20)
    head = f"POST /function/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close"
    sock.sendall(f"{head}\r\n\r\n{body}".encode())
    return sock


def queue(town: Town, *bodies: str, name: str = "one") -> list[socket.socket]:
    """Calls that wait in this order."""
    sockets: list[socket.socket] = []
    waiting = function(town, name).waiting
    for body in bodies:
        sockets.append(send(town, body, name))
        wait_until(lambda: len(waiting) == len(sockets), "the call waits")
    return sockets


@contextmanager
def held(town: Town, file: Path) -> Iterator[None]:
    """The function's only place is taken; at the end it is free, and so is the queue."""
    with ThreadPoolExecutor() as pool:
        running = pool.submit(httpx.post, f"{town.url}/function/one", content=f"hold {file}", timeout=30)
        wait_until(lambda: function(town).ready[0].in_flight == 1, "the place is taken")
        try:
            yield
        finally:
            file.touch()
            assert 200 == running.result(30).status_code
            wait_until(lambda: function(town).ready[0].in_flight == 0, "all have been answered")
            assert not function(town).waiting


def answer_of(sock: socket.socket) -> tuple[str, str]:
    """Head and body of the answer, once the connection is closed."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    sock.close()
    head, _, body = data.decode().partition("\r\n\r\n")
    return head, body


def leave(sock: socket.socket, how: str) -> None:
    if how == "half":
        sock.shutdown(socket.SHUT_WR)
        return
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def calls_of(town: Town, name: str = "one") -> list[str]:
    """What the handler was called with so far."""
    return httpx.post(f"{town.url}/function/{name}", content="list", timeout=30).text.split()


def test_who_leaves_while_the_replica_boots_is_never_served(town: Town) -> None:
    """However they leave; who stays is."""
    town.deploy("boots", f"import time\ntime.sleep(1)\n{SOURCE}", is_waiting=False)
    close, reset, stay, half = queue(town, "close", "reset", "stay", "half", name="boots")

    for sock, how in ((close, "close"), (reset, "reset"), (half, "half")):
        leave(sock, how)

    wait_until(lambda: len(function(town, "boots").waiting) == 1, "their places are free")
    assert not function(town, "boots").ready, "it boots still"
    assert "stay" == answer_of(stay)[1]
    assert ["stay"] == calls_of(town, "boots")
    half.close()


def test_who_leaves_the_queue_of_a_busy_function_is_never_served(town: Town, tmp_path: Path) -> None:
    """And whoever stood behind moves up."""
    with held(town, tmp_path / "go"):
        first, gone, last = queue(town, "first", "gone", "last")
        leave(gone, "close")
        wait_until(lambda: len(function(town).waiting) == 2, "its place is free")

    assert ["first", "last"] == [answer_of(first)[1], answer_of(last)[1]]
    assert "gone" not in calls_of(town)


def test_calls_are_served_in_the_order_in_which_they_came(town: Town, tmp_path: Path) -> None:
    """A full queue, first come first served."""
    names = [f"fifo-{n}" for n in range(LIMIT)]

    with held(town, tmp_path / "go"):
        sockets = queue(town, *names)

    assert names == [answer_of(sock)[1] for sock in sockets]
    assert names == [name for name in calls_of(town) if name.startswith("fifo")]


def test_one_more_than_fit_is_refused_at_once(town: Town, tmp_path: Path) -> None:
    """429 with `Retry-After` in under 50 ms, in the form that the caller reads; it never runs."""
    found: list[httpx.Response] = []

    def refused_s() -> float:
        began = time.monotonic()
        found.append(http.post("/function/one", content="excess", headers={"Accept": "application/json"}))
        return time.monotonic() - began

    with httpx.Client(base_url=town.url, timeout=30) as http, held(town, tmp_path / "go"):
        sockets = queue(town, *["full"] * LIMIT)
        took_s = best_s(refused_s, 0.05)

    assert took_s < 0.05
    for reply in found:
        assert (429, "1") == (reply.status_code, reply.headers["retry-after"])
        told = reply.json()["error"]
        assert ("queue_full", reply.headers["x-call-id"]) == (told["code"], told["call_id"])
        assert "10 calls wait for 'one'" in told["message"]
    assert ["full"] * LIMIT == [answer_of(sock)[1] for sock in sockets]
    assert "excess" not in calls_of(town)
    assert len(found) == town.gateway.edge.numbers.of("one.openfaas-fn").ends["refused"]


def test_a_caller_that_asked_for_it_sees_what_it_waits_for(town: Town) -> None:
    """`queued` at once, while the replica boots, then `starting`, then the function's own events."""
    wishes = {"com.tailrace.stream.status": "on"}
    town.deploy("tells", STREAM, lang="python3-stream", annotations=wishes, is_waiting=False)

    with httpx.stream(
        "GET", f"{town.url}/function/tells", headers={"Accept": "text/event-stream"}, timeout=30
    ) as reply:
        pieces = reply.iter_text()
        first = next(pieces)
        assert not function(town, "tells").ready, "it boots still"
        text = first + "".join(pieces)

    def status(state: str) -> str:
        return f"event: status\ndata: {json.dumps({'state': state}, separators=(',', ':'))}\n\n"

    assert status("queued") == first
    assert f"{status('queued')}{status('starting')}data: hello\n\nevent: end\ndata: {{}}\n\n" == text


def test_the_queue_clock_ends_a_wait(town: Town, tmp_path: Path) -> None:
    """503 with `Retry-After`, which names the clock and how to change it; the handler never runs."""
    wishes = {"com.tailrace.timeout.queue": "300ms"}
    town.deploy("brief", SOURCE, env=ONE, annotations=wishes)
    holding = send(town, f"hold {tmp_path / 'go'}", "brief")
    wait_until(lambda: function(town, "brief").ready[0].in_flight == 1, "the place is taken")

    began = time.monotonic()
    reply = httpx.post(f"{town.url}/function/brief", content="late", timeout=30)
    took_s = time.monotonic() - began

    (tmp_path / "go").touch()
    assert "hold" == answer_of(holding)[1]
    assert (503, "1") == (reply.status_code, reply.headers["retry-after"])
    assert "within 0.3 s (queue clock)" in reply.text
    assert "com.tailrace.timeout.queue" in reply.text
    assert 0.3 <= took_s < 1
    assert ["hold"] == calls_of(town, "brief")
    ends = town.gateway.edge.numbers.of("brief.openfaas-fn").ends
    assert (1, 0) == (ends["timeout_queue"], ends["refused"])
