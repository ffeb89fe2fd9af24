"""Behaviours 2, 3: the client leaves, and whatever the handler waits for, the model's connection closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.llm.mock.record import ConnectionLog
from tests.kit.gateway import Town
from tests.kit.patience import best_s, wait_until

SYNC = """
import sys
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
            print("cleaned up after", sys.exc_info()[0].__name__)
    return Response(tell(), mimetype="text/event-stream")
"""

WHOLE = """
import sys
from openai import OpenAI
client = OpenAI()

def handle(req):
    try:
        return client.chat.completions.create(
            model=req, messages=[{"role": "user", "content": "hi"}]
        ).choices[0].message.content
    finally:
        print("cleaned up after", sys.exc_info()[0].__name__)
"""

ASYNC = """
import sys
from openai import AsyncOpenAI
client = AsyncOpenAI()

async def handle(event, context):
    try:
        async for chunk in await client.chat.completions.create(
            model=event.body.decode(), stream=True, messages=[{"role": "user", "content": "hi"}]
        ):
            yield chunk.choices[0].delta.content or ""
    finally:
        print("cleaned up after", sys.exc_info()[0].__name__)
"""

ASYNC_WHOLE = """
import sys
from openai import AsyncOpenAI
client = AsyncOpenAI()

async def handle(event, context):
    try:
        answer = await client.chat.completions.create(
            model=event.body.decode(), messages=[{"role": "user", "content": "hi"}]
        )
        return answer.choices[0].message.content
    finally:
        print("cleaned up after", sys.exc_info()[0].__name__)
"""

HANDLERS = {
    "sync": (SYNC, "python3-flask"),
    "whole": (WHOLE, "python3-flask"),
    "async": (ASYNC, "python3-stream"),
    "async-whole": (ASYNC_WHOLE, "python3-http"),
}
# What each is told by: a task is cancelled or its generator closed, a greenlet is killed.
CAUSES = {
    "sync": {"GreenletExit", "GeneratorExit"},
    "whole": {"GreenletExit"},
    "async": {"CancelledError", "GeneratorExit"},
    "async-whole": {"CancelledError"},
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


def ask(town: Town, name: str, model: str) -> socket.socket:
    """A connection on which the whole request is sent."""
    sock = socket.create_connection(("127.0.0.1", town.port), 10)
    head = f"POST /function/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(model)}\r\n\r\n"
    sock.sendall(head.encode() + model.encode())
    return sock


def leave(town: Town, name: str, model: str, *, after_bytes: bool) -> float:
    """Call, leave, and tell how many seconds later the mock saw its connection close."""
    before = len(town.connections())
    sock = ask(town, name, model)
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
        ("async-whole", SILENT, False),
        ("async-whole", MIDWAY, False),
    ],
)
def test_a_client_that_leaves_ends_the_models_work_within_100_ms(
    town: Town, name: str, model: str, after_bytes: bool
) -> None:
    """Before the first token, between tokens, in a silence, in an answer that is no stream."""
    before, left = len(causes(town)), 0

    def measure() -> float:
        nonlocal left
        left += 1
        return leave(town, name, model, after_bytes=after_bytes)

    assert best_s(measure, 0.1) <= 0.1
    wait_until(lambda: len(causes(town)) == before + left, "the handler's finally ran")
    assert set(causes(town)[before:]) <= CAUSES[name]


def causes(town: Town) -> list[str]:
    """What each handler that ended had been told by."""
    return re.findall(r"cleaned up after (\w+)", town.log_text())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rounds"), [("sync", 10), ("async", 3)])
def test_1000_disconnects_leave_threads_sockets_and_slots_where_they_were(
    town: Town, name: str, rounds: int
) -> None:
    """Nothing of a call outlives it: in the replica, in the gateway, at the model."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    function = next(f for f in town.gateway.table if f.name.name == name)
    handle = function.ready[0].handle
    assert handle is not None
    leave_at_once(town, name, MIDWAY, 25)
    before = threads_and_sockets(handle.pid) + threads_and_sockets(os.getpid())
    for model in (SILENT, MIDWAY, STALLED, MIDWAY) * rounds:
        leave_at_once(town, name, model, 25)

    wait_until(lambda: function.ready[0].in_flight == 0, "every slot is back")
    assert function.ready[0].handle is handle, "the replica was not replaced"

    def is_as_before() -> bool:
        now = threads_and_sockets(handle.pid) + threads_and_sockets(os.getpid())
        return all(count <= was for count, was in zip(now, before, strict=True))

    wait_until(is_as_before, f"threads and sockets are what they were, {before}")


def threads_and_sockets(pid: int) -> tuple[int, int]:
    """How many a process has."""
    links = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            links.append(str(file.readlink()))
    return len(list(Path(f"/proc/{pid}/task").iterdir())), sum(link.startswith("socket:") for link in links)


def leave_at_once(town: Town, name: str, model: str, count: int) -> None:
    """So many clients call, and leave while the model is at work for all of them."""
    sockets = [ask(town, name, model) for _ in range(count)]
    wait_asked(town, lambda log: at_work(log) == count)
    for sock in sockets:
        sock.close()
    wait_asked(town, lambda log: at_work(log) == 0)


def at_work(log: ConnectionLog) -> int:
    """Connections on which the model has not ended its answer."""
    return sum(
        c.closed_at is None and c.requests[-1].outcome in ("running", "stall") for c in log if c.requests
    )


def wait_asked(town: Town, is_so: Callable[[ConnectionLog], bool]) -> None:
    """Wait until the mock's log is so."""
    asyncio.run_coroutine_threadsafe(town.mock.log.wait_until(is_so, timeout_s=20), town.loop).result(25)
