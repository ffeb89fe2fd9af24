"""Behaviour 15: sync handlers that block starve nobody; async code that blocks is told of."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.kit.gateway import Town, running_town
from tests.kit.needs import missing
from tests.kit.patience import best_s, wait_until

pytestmark = pytest.mark.slow

STREAMS = 300

SYNC = """
import time
from flask import Response

def handle(req):
    def tell():
        yield "data: hello\\n\\n"
        time.sleep(float(req))
    return Response(tell(), mimetype="text/event-stream")
"""
ASYNC = """
async def handle(event, context):
    yield "hello"
"""
BLOCKING = """
import time

async def handle(event, context):
    blocks()
    yield "hello"

def blocks():
    time.sleep(5)
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One replica of each function."""
    with running_town(tmp_path_factory.mktemp("town")) as town:
        for name, source, lang in (
            ("sync", SYNC, "python3-flask"),
            ("async", ASYNC, "python3-stream"),
            ("blocking", BLOCKING, "python3-stream"),
        ):
            status = town.deploy(name, source, lang=lang)
            assert status.get("availableReplicas") == 1, status
        yield town


def first_event_s(http: httpx.Client, name: str) -> float:
    """Seconds from a call to its first event; then it is left."""
    began = time.monotonic()
    with http.stream("POST", f"/function/{name}", content="0") as reply:
        assert next(reply.iter_text()).startswith("data: hello\n\n")
        return time.monotonic() - began


def healthz_s(http: httpx.Client) -> float:
    began = time.monotonic()
    assert 200 == http.get("/healthz").status_code
    return time.monotonic() - began


def open_stream(town: Town) -> socket.socket:
    """A stream that said its first event and is silent from then on."""
    sock = socket.create_connection(("127.0.0.1", town.port), 30)
    sock.sendall(b"POST /function/sync HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n3600")
    return sock


def test_300_blocked_sync_streams_on_one_replica_starve_nobody(town: Town) -> None:
    """Health in under 50 ms, another function's first event in under 200 ms, and so that of the same one."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4 * STREAMS:
        missing(f"too few files may be open; to run this test: ulimit -n {4 * STREAMS}")
    function = next(f for f in town.gateway.table if f.name.name == "sync")
    with ExitStack() as stack, httpx.Client(base_url=town.url, timeout=30) as http:
        for sock in [stack.enter_context(open_stream(town)) for _ in range(STREAMS)]:
            text = b""
            while b"data: hello" not in text:
                text += sock.recv(65536)
        assert STREAMS == function.ready[0].in_flight

        assert best_s(lambda: healthz_s(http), 0.05) < 0.05
        assert best_s(lambda: first_event_s(http, "async"), 0.2) < 0.2
        assert best_s(lambda: first_event_s(http, "sync"), 0.2) < 0.2

        wait_until(lambda: STREAMS == function.ready[0].in_flight, "only those three have ended")
        assert 1 == len(function.replicas)
    wait_until(lambda: function.ready[0].in_flight == 0, "every stream has ended")


def test_an_async_handler_that_blocks_is_told_of_with_its_stack(town: Town) -> None:
    """`time.sleep(5)` in an `async def`: within 2 s, in the function's logs, under the call's id."""
    with socket.create_connection(("127.0.0.1", town.port)) as sock:
        began = time.monotonic()
        sock.sendall(b"GET /function/blocking HTTP/1.1\r\nHost: a\r\n\r\n")

        wait_until(lambda: "in blocks\n" in town.log_text(), "the stack is told")
        took_s = time.monotonic() - began

    told = next(line for line in town.logged if "has kept every other call" in line.text)
    assert took_s < 2
    assert ("blocking", "stderr") == (told.function.name, told.stream)
    assert re.search(r'File ".*/function/handler.py", line \d+, in handle\n', town.log_text(told.call_id))
    with httpx.Client(base_url=town.url, timeout=30) as http:
        assert best_s(lambda: healthz_s(http), 0.05) < 0.05, "the gateway and its other functions go on"
        assert best_s(lambda: first_event_s(http, "async"), 0.2) < 0.2
