"""Code that keeps the loop or the hub is told of with its stack, once, and again when it is over."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.replica import Replica, Report, loaded_replica

pytestmark = pytest.mark.slow

ASYNC = """
import asyncio, itertools, os, time

async def handle(event, context):
    if event.path == "/sleep":
        blocks(float(event.body))
    if event.path == "/compute":
        until = time.monotonic() + float(event.body)
        while time.monotonic() < until:
            pass
    if event.path == "/child":
        await asyncio.create_task(child(float(event.body)))
    if event.path == "/later":
        asyncio.get_running_loop().call_later(0, blocks, float(event.body))
    if event.path == "/hold":
        yield str(hold(float(event.body)))
    if event.path == "/busy":
        yield "begun"
        while True:
            sum(range(1000))
            await asyncio.sleep(0)
    if event.path == "/fork":
        blocks(float(event.body))
        yield str(fork())
    yield "done"

def blocks(seconds):
    time.sleep(seconds)

async def child(seconds):
    blocks(seconds)
"""
SYNC = """
import ctypes, gevent, itertools, os, time
libc = ctypes.CDLL(None)

def handle(event, context):
    if event.path == "/sleep":
        blocks(float(event.body))
    if event.path == "/compute":
        until = time.monotonic() + float(event.body)
        while time.monotonic() < until:
            pass
    if event.path == "/hold":
        yield str(hold(float(event.body)))
    if event.path == "/busy":
        yield "begun"
        while True:
            sum(range(1000))
            time.sleep(0)
    if event.path == "/child":
        gevent.spawn(blocks, float(event.body)).join()
    if event.path == "/later":
        gevent.spawn_later(0, blocks, float(event.body))
    if event.path == "/fork":
        blocks(float(event.body))
        yield str(fork())
    yield "done"

def blocks(seconds):
    libc.usleep(int(seconds * 1e6))
"""
BOTH = """
def hold(seconds):
    count, took = 1000, 0.0
    while took < seconds:
        began = time.monotonic()
        holds(count)
        took = time.monotonic() - began
        count = int(count * max(2, min(10, seconds / took)))
    return took

def holds(count):
    max(itertools.repeat(0, count))

def fork():
    child = os.fork()
    if child == 0:
        print("child", flush=True)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
SOURCES = {"async": ASYNC + BOTH, "greenlets": SYNC + BOTH}
BEGUN = re.compile(r"tailrace: (.*) has kept every other call of its replica waiting for ([0-9.]+) s\. ")
OVER = re.compile(r"tailrace: the other calls go on, after about ([0-9.]+) s\n")


@pytest.fixture(params=SOURCES)
def replica(request: pytest.FixtureRequest) -> Iterator[Replica]:
    with loaded_replica(SOURCES[request.param]) as loaded:
        yield loaded


def told(replica: Replica, begun: bool) -> Report:
    """The first report that a blockage began, or was over."""
    pattern = BEGUN if begun else OVER
    return replica.wait_report(lambda report: pattern.match(str(report.get("text"))) is not None)


def seconds(report: Report) -> float:
    match = BEGUN.match(str(report["text"])) or OVER.match(str(report["text"]))
    assert match is not None
    return float(match[match.lastindex or 0])


def lines(replica: Replica) -> list[str]:
    return replica.logs().splitlines(keepends=True)


@pytest.mark.parametrize(("path", "at"), [("/sleep", "in blocks\n"), ("/compute", "in handle\n")])
def test_code_that_blocks_is_told_with_its_stack(replica: Replica, path: str, at: str) -> None:
    """Within 2 s, under the call's id, from the handler's own code on; once, and once when it is over."""
    with replica.talk() as talk:
        asked_at = time.monotonic()
        talk.send("POST", path, b"3", {"X-Call-Id": "call-1"})

        begun = told(replica, begun=True)

        assert time.monotonic() - asked_at < 2
        over = told(replica, begun=False)
        assert ("call-1", "stderr", "call-1", "stderr") == (
            begun["call"], begun["stream"], over["call"], over["stream"],
        )  # fmt: skip
        assert str(begun["text"]).startswith("tailrace: this call ")
        assert 0.9 < seconds(begun) < 2
        assert 2.7 < seconds(over) < 5
        assert b"data: done\n\n" in talk.read_answer().body
    got = lines(replica)
    assert 2 == sum("tailrace: " in line for line in got)
    assert re.match(r'  File ".*/function/handler.py", line \d+, in handle\n', got[1])
    assert got[-3].endswith(at)
    assert "tailrace_runtime" not in replica.logs()


def test_each_blockage_is_told(replica: Replica) -> None:
    """A second call that blocks is as worth a word as the first; calls that do not block are not told of."""
    for number in range(2):
        assert replica.ask("POST", "/sleep", b"1.6", {"X-Call-Id": f"call-{number}"}).is_whole
        assert replica.ask("POST", "/none").is_whole

    replica.wait_report(lambda r: r.get("call") == "call-1" and OVER.match(str(r["text"])) is not None)
    assert 4 == sum("tailrace: " in line for line in lines(replica))


@pytest.mark.parametrize("path", ["/child", "/later"])
def test_code_beside_a_call_is_told_too(replica: Replica, path: str, request: pytest.FixtureRequest) -> None:
    """A task, greenlet or timer that a handler made; a task's call is known from Python 3.12 on."""
    assert replica.ask("POST", path, b"1.6", {"X-Call-Id": "call-1"}).is_whole

    begun = told(replica, begun=True)

    told(replica, begun=False)
    assert ", in blocks\n" in replica.logs()
    is_known = sys.version_info >= (3, 12) and path == "/child" and "async" in request.node.name
    assert ("call-1" if is_known else "") == begun["call"]
    assert ("this call" if is_known else "code of this function") in str(begun["text"])


def test_a_c_call_that_holds_the_interpreter_is_told_after_it(replica: Replica) -> None:
    """No Python can run meanwhile, the watcher neither; it still knows who it was."""
    assert replica.ask("POST", "/hold", b"2", {"X-Call-Id": "call-1"}).is_whole

    told(replica, begun=False)

    begun = told(replica, begun=True)
    assert "call-1" == begun["call"]
    assert seconds(begun) > 1
    assert ", in holds\n" in replica.logs()


def test_a_process_that_was_stopped_is_not_told_of(replica: Replica) -> None:
    """SIGSTOP, a frozen group, a machine asleep: the time went by, and no code of anybody's ran in it."""
    with replica.talk() as talk:
        talk.send("POST", "/busy")
        talk.read_head()
        assert b"data: begun\n\n" == talk.read_data()

        replica.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        replica.process.send_signal(signal.SIGCONT)

        assert replica.ask("POST", "/sleep", b"1.6", {"X-Call-Id": "real"}).is_whole
    assert "real" == told(replica, begun=True)["call"]
    told(replica, begun=False)
    assert 2 == sum("tailrace: " in line for line in lines(replica))


def test_a_blocked_replica_drains_and_leaves(replica: Replica) -> None:
    """A stop that comes in the middle of a blockage: the call finishes, exit code 0."""
    with replica.talk() as talk:
        talk.send("POST", "/sleep", b"2")
        told(replica, begun=True)

        replica.terminate()

        assert b"data: done\n\n" in talk.read_answer().body
        assert 0 == replica.wait_exit()


def test_an_idle_replica_leaves_at_once(replica: Replica) -> None:
    """The watcher keeps nothing alive."""
    replica.terminate()

    asked_at = time.monotonic()
    assert 0 == replica.wait_exit()
    assert time.monotonic() - asked_at < 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts as Linux tells it")
def test_watching_costs_an_idle_replica_few_wakings(replica: Replica) -> None:
    """4 of the loop and 1 of the watcher a second; 20 is far from what a timer gone wrong does."""
    assert replica.ask("POST", "/none").is_whole
    before = wakings(replica.process.pid)

    time.sleep(1)

    assert wakings(replica.process.pid) - before < 20


def wakings(pid: int) -> int:
    """How often the threads of a process gave up the processor so far."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(count) for text in texts for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


def test_a_handler_can_fork(replica: Replica) -> None:
    """Right after a blockage, while the watcher may be writing; the child has its streams."""
    answer = replica.ask("POST", "/fork", b"1.6")

    assert answer.body.startswith(b"data: 7\n\ndata: done\n\n")
    replica.wait_log("child")
