"""Many streams at once on one replica, and clients that do not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.kit.loops import run
from tests.kit.replica import Replica, loaded_replica

pytestmark = pytest.mark.slow

STREAMS = 500
SOURCES = {
    "greenlets": """
import time
def handle(event, context):
    for number in range(5):
        yield f"{number}"
        time.sleep(0.1)
""",
    "async": """
import asyncio
async def handle(event, context):
    for number in range(5):
        yield f"{number}"
        await asyncio.sleep(0.1)
""",
}
SOURCES["threads"] = SOURCES["greenlets"]


async def _read_stream(path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\nHost: fn\r\nConnection: close\r\n\r\n")
    body = await reader.read(-1)
    writer.close()
    return body


@pytest.mark.parametrize("manner", ["greenlets", "async", "threads"])
def test_500_streams_complete_at_once(manner: str) -> None:
    """All of them whole, from one process whose default limit of open files is lower."""
    worker = "threads" if manner == "threads" else "greenlets"

    async def read_all(path: str) -> list[bytes]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(_read_stream(path) for _ in range(STREAMS)))

    with loaded_replica(SOURCES[manner], worker=worker) as replica:
        replies = run(read_all(replica.path))

    assert STREAMS == sum(reply.endswith(b"event: end\ndata: {}\n\n\r\n0\r\n\r\n") for reply in replies)


@pytest.mark.parametrize("manner", ["greenlets", "async", "threads"])
def test_a_client_that_does_not_read_stops_the_handler(manner: str) -> None:
    """What is ahead of the client is bounded by the kernel's buffer and ours: about half a MiB."""
    manner_def = "async def" if manner == "async" else "def"
    source = f"""
sent = 0
{manner_def} handle(event, context):
    global sent
    if event.path == "/sent":
        yield str(sent)
        return
    while True:
        sent += 1024
        yield b"x" * 1024
"""
    worker = "threads" if manner == "threads" else "greenlets"
    with loaded_replica(source, worker=worker) as replica, replica.talk() as talk:
        talk.send("GET", "/")
        talk.read_head()
        seen = [-1, 0]
        while seen[-1] != seen[-2]:
            seen.append(int(replica.ask("GET", "/sent").text.split("\n")[0].removeprefix("data: ")))

        assert 0 < seen[-1] < 1024 * 1024


BLOCKED = """
import socket

def handle(event, context):
    yield "begun"
    if event.path == "/blocked":
        mine, theirs = socket.socketpair()
        mine.recv(1)
"""


def _begin(replica: Replica, path: str, stack: ExitStack) -> None:
    """A stream that has given its first event."""
    talk = stack.enter_context(replica.talk())
    talk.send("GET", path)
    talk.read_head()
    assert b"data: begun\n\n" == talk.read_data()


def _best_of_three(act: Callable[[], object]) -> float:
    """The least seconds it takes: on a loaded machine any single one may wait for a processor."""
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        act()
        took_s.append(time.monotonic() - began)
    return min(took_s)


@pytest.mark.parametrize("worker", ["greenlets", "threads"])
def test_300_blocked_streams_starve_nobody(worker: str) -> None:
    """Each waits in a read without end; health is green within 50 ms, a new stream begins within 200."""
    with loaded_replica(BLOCKED, worker=worker) as replica, ExitStack() as stack:
        for _ in range(300):
            _begin(replica, "/blocked", stack)

        health_s = _best_of_three(lambda: replica.ask("GET", "/_/health"))
        first_s = _best_of_three(lambda: _begin(replica, "/", stack))

        assert health_s < 0.05
        assert first_s < 0.2
