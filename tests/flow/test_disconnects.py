"""The client leaves: whatever the handler is blocked in, the model's connection closes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.gateway import Town

SYNC = """
from flask import Response
from openai import OpenAI
client = OpenAI()

def handle(req):
    def tell():
        try:
            for chunk in client.chat.completions.create(
                model=req, stream=True, messages=[{"role": "user", "content": "hi"}]
            ):
                yield f"data: {chunk.choices[0].delta.content}\\n\\n"
        finally:
            print("cleaned up")
    return Response(tell(), mimetype="text/event-stream")
"""

WHOLE = """
from openai import OpenAI
client = OpenAI()

def handle(req):
    try:
        return client.chat.completions.create(
            model=req, messages=[{"role": "user", "content": "hi"}]
        ).choices[0].message.content
    finally:
        print("cleaned up")
"""

ASYNC = """
from openai import AsyncOpenAI
client = AsyncOpenAI()

async def handle(event, context):
    try:
        async for chunk in await client.chat.completions.create(
            model=event.body.decode(), stream=True, messages=[{"role": "user", "content": "hi"}]
        ):
            yield chunk.choices[0].delta.content or ""
    finally:
        print("cleaned up")
"""

HANDLERS = {
    "sync": (SYNC, "python3-flask"),
    "whole": (WHOLE, "python3-flask"),
    "async": (ASYNC, "python3-stream"),
}
# What the mock does while the client leaves.
SILENT = "mock?ttft=60"
MIDWAY = "mock?ttft=0&tps=20&tokens=1000"
STALLED = "mock?ttft=0&tps=50&tokens=1000&stall_after=3"


@pytest.fixture(scope="module", autouse=True)
def functions(town: Town) -> None:
    """The functions of this module."""
    for name, (source, lang) in HANDLERS.items():
        status = town.deploy(name, source, lang=lang, requirements="openai\n")
        assert status.get("availableReplicas") == 1, status


def wait_until(is_so: Callable[[], bool], what: str, limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def leave(town: Town, name: str, model: str, *, after_bytes: bool) -> float:
    """Call, leave, and tell how many seconds later the mock saw its connection close."""
    before = len(town.connections())
    body = model.encode()
    sock = socket.create_connection(("127.0.0.1", town.port), 10)
    head = f"POST /function/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    wait_until(lambda: len(town.connections()) > before, "the model was asked")
    if after_bytes:
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    connection = town.connections()[-1]
    left_at = time.monotonic()
    sock.close()
    wait_until(lambda: connection.closed_at is not None, "the model's connection closed")
    assert connection.closed_at is not None
    assert connection.closed_by == "client"
    return connection.closed_at - left_at


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "after_bytes"),
    [
        ("sync", SILENT, False),
        ("sync", MIDWAY, True),
        ("sync", STALLED, True),
        ("whole", SILENT, False),
        ("whole", MIDWAY, False),
        ("async", SILENT, False),
        ("async", MIDWAY, True),
        ("async", STALLED, True),
    ],
)
def test_a_client_that_leaves_ends_the_models_work_within_100_ms(
    town: Town, name: str, model: str, after_bytes: bool
) -> None:
    """Before the first token, between tokens, in a silence, in an answer that is no stream."""
    cleaned = town.log_text().count("cleaned up")

    took_s = leave(town, name, model, after_bytes=after_bytes)

    assert took_s <= 0.1
    wait_until(lambda: town.log_text().count("cleaned up") == cleaned + 1, "the handler's finally ran")


@pytest.mark.slow
def test_300_disconnects_leave_sockets_and_slots_where_they_were(town: Town) -> None:
    """Nothing of a call outlives it: in the replica, in the gateway, at the model."""
    function = next(f for f in town.gateway.table if f.name.name == "sync")
    handle = function.ready[0].handle
    assert handle is not None
    for _ in range(10):
        leave(town, "sync", MIDWAY, after_bytes=True)

    def sockets(pid: int) -> int:
        links = [str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()]
        return sum(link.startswith("socket:") for link in links)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    before = sockets(handle.pid), sockets(os.getpid())
    for n in range(300):
        leave(town, "sync", MIDWAY if n % 2 else SILENT, after_bytes=bool(n % 2))
    wait_until(lambda: function.ready[0].in_flight == 0, "every slot is back")

    assert function.ready[0].handle is handle, "the replica was not replaced"
    wait_until(
        lambda: (sockets(handle.pid), sockets(os.getpid())) <= (before[0] + 1, before[1] + 1),
        f"sockets are back: {before}, {(sockets(handle.pid), sockets(os.getpid()))}",
    )
