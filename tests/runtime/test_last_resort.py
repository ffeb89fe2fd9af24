"""A handler that will not stop: the replica lets the others finish and goes."""

from __future__ import annotations

import pytest

from tests.kit.replica import Replica, Talk, loaded_replica, wait_until

pytestmark = pytest.mark.slow

STUBBORN = {
    "greenlets": """
import time
def handle(event, context):
    yield "begun"
    if event.path == "/other":
        time.sleep(4)
        yield "done"
        return
    while True:
        try:
            time.sleep(10)
        except BaseException:
            print("not me", flush=True)
""",
    "threads": """
import time
def handle(event, context):
    yield "begun"
    time.sleep(4 if event.path == "/other" else 60)
    yield "done"
""",
    "async": """
import asyncio
async def handle(event, context):
    yield "begun"
    if event.path == "/other":
        await asyncio.sleep(4)
        yield "done"
        return
    while True:
        try:
            await asyncio.sleep(10)
        except BaseException:
            print("not me", flush=True)
""",
}


def begin(replica: Replica, path: str) -> Talk:
    talk = replica.talk()
    talk.send("GET", path)
    talk.read_head()
    assert b"data: begun\n\n" == talk.read_data()
    return talk


@pytest.mark.parametrize("manner", ["greenlets", "threads", "async"])
def test_a_call_that_cannot_be_stopped_retires_the_replica(manner: str) -> None:
    """It is reported, nothing new is accepted, the other call finishes, and then the process is gone."""
    worker = "threads" if manner == "threads" else "greenlets"
    with loaded_replica(STUBBORN[manner], worker=worker) as replica:
        stuck, other = begin(replica, "/"), begin(replica, "/other")

        stuck.close()

        told = replica.wait_report(lambda report: report["type"] == "retiring")
        assert str(told["reason"]).startswith("a call did not stop within 1.5 s")
        wait_until(replica.refuses, 1)
        assert b"data: done\n\n" == other.read_data()
        assert b"event: end\ndata: {}\n\n" == other.read_data()
        other.close()
        assert 75 == replica.wait_exit()
        assert "did not stop" not in replica.logs()  # who gets the report writes the log


@pytest.mark.parametrize("manner", ["greenlets", "async"])
def test_cleanup_runs_when_the_client_leaves(manner: str) -> None:
    """``finally`` blocks of the handler run, and an ordinary stop is no error in the logs."""
    source = {
        "greenlets": """
import time
def handle(event, context):
    try:
        yield "begun"
        time.sleep(60)
    finally:
        print("cleaned up")
""",
        "async": """
import asyncio
async def handle(event, context):
    try:
        yield "begun"
        await asyncio.sleep(60)
    finally:
        print("cleaned up")
""",
    }[manner]
    with loaded_replica(source) as replica:
        talk = begin(replica, "/")

        talk.close()

        replica.wait_log("cleaned up")
        assert "cleaned up\n" == replica.logs()


STRUCK_LATE = """
import gc, time
from tailrace_runtime.threads import CallStopped
def struck():
    print("cleaning up")
    raise CallStopped
def handle(event, context):
    gc.collect = struck  # the runtime collects when a client left: as if an interrupt met it there
    yield "begun"
    while True:
        time.sleep(0.01)
"""


def test_an_interrupt_that_comes_late_is_not_told_to_the_function() -> None:
    """A thread that is struck when its handler is done already ends without a word, and its call with it."""
    with loaded_replica(STRUCK_LATE, worker="threads") as replica:
        begin(replica, "/").close()
        replica.wait_log("cleaning up")

        replica.terminate()

        assert 0 == replica.wait_exit()
        replica.wait_report(lambda report: report["type"] == "end")
        assert "cleaning up\n" == replica.logs()
