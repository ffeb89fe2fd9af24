"""From the provider's one line on stdin to a replica that serves, drains or dies."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.kit.ps import is_gone
from tests.kit.replica import boot_replica, loaded_replica, runtime_folder, wait_until

pytestmark = pytest.mark.slow

SLOW = {
    "sync": """
import time
def handle(event, context):
    yield "first"
    time.sleep(0.3)
    yield "second"
""",
    "async": """
import asyncio
async def handle(event, context):
    yield "first"
    await asyncio.sleep(0.3)
    yield "second"
""",
}
MANNERS = [("sync", "greenlets"), ("sync", "threads"), ("async", "greenlets")]


@pytest.mark.parametrize(
    ("source", "error", "hint", "trace"),
    [
        (
            "import nosuch_thing",
            "No module named 'nosuch_thing'",
            "add 'nosuch-thing' to",
            "line 1, in <module>",
        ),
        (
            "def handel(req): ...",
            "named 'handle', or an ASGI app named 'app'; found: 'handel'",
            "Name the function",
            "",
        ),
        ("handle = 3", "handle is a int", "", ""),
        ("def handle(:", "SyntaxError", "", "handler.py"),
        ("x = 1\nraise RuntimeError('no\\nkey')", "RuntimeError: no", "", "line 2, in <module>"),
        ("import sys\nsys.exit(3)", "ended the process", "", "line 2"),
    ],
)
def test_a_handler_that_cannot_load_is_explained(source: str, error: str, hint: str, trace: str) -> None:
    """The report has the error in one line, the traceback from the handler on, and the next step."""
    with boot_replica(source) as replica:
        report = replica.wait_first()

        assert "failed" == report["type"]
        assert error in str(report["error"])
        assert "\n" not in str(report["error"])
        assert hint in str(report["hint"])
        assert trace in str(report["trace"])
        assert "tailrace_runtime" not in str(report["trace"])
        assert 1 == replica.wait_exit()


@pytest.mark.parametrize(
    "import_line", ["import helper", "from . import helper", "from function import helper"]
)
def test_a_handler_imports_its_neighbours(import_line: str) -> None:
    """Files beside handler.py are found by name and as parts of the package."""
    source = f"{import_line}\ndef handle(event, context):\n    return helper.WORD\n"
    with boot_replica(source, files={"helper.py": "WORD = 'found'"}) as replica:
        assert "loaded" == replica.wait_first()["type"]

        assert replica.ask().text.startswith("data: found\n\n")


@pytest.mark.parametrize(
    "source",
    [
        "from .impl import handle",
        "def make():\n  async def inner(event, context):\n    yield 'ok'\n  return inner\nhandle = make()",
    ],
)
def test_a_handler_whose_source_does_not_tell_is_served_all_the_same(source: str) -> None:
    """Async shown only by the import: the interpreter starts again without gevent; the lifeline holds."""
    with boot_replica(
        source, files={"impl.py": "async def handle(event, context):\n    yield 'ok'"}
    ) as replica:
        assert "loaded" == replica.wait_first()["type"]
        assert b"data: ok\n\nevent: end\ndata: {}\n\n" == replica.ask().body

        replica.cut_lifeline()

        assert -signal.SIGKILL == replica.wait_exit()


@pytest.mark.parametrize(("manner", "worker"), MANNERS)
def test_the_end_of_the_lifeline_ends_the_whole_group(manner: str, worker: str) -> None:
    """When the gateway dies the replica and what it started die with it."""
    start = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint(f'child={child.pid}')\n"
    with loaded_replica(start + SLOW[manner], worker=worker) as replica:
        child = int(str(replica.wait_log("child=")["text"]).split("=")[1])
        assert not is_gone(child)

        replica.cut_lifeline()

        assert -signal.SIGKILL == replica.wait_exit()
        wait_until(lambda: is_gone(child), 5)


@pytest.mark.parametrize(("manner", "worker"), MANNERS)
def test_a_drain_finishes_running_calls(manner: str, worker: str) -> None:
    """After SIGTERM nothing new is accepted, the stream ends whole, idle connections close, exit code 0."""
    with (
        loaded_replica(SLOW[manner], worker=worker) as replica,
        replica.talk() as talk,
        replica.talk() as idle,
    ):
        idle.send("GET", "/_/health")
        assert 200 == idle.read_answer().status
        talk.send()
        talk.read_head()
        assert b"data: first\n\n" == talk.read_data()

        replica.terminate()

        assert idle.is_closed()
        wait_until(replica.refuses, 1)
        assert b"data: second\n\n" == talk.read_data()
        assert b"event: end\ndata: {}\n\n" == talk.read_data()
        assert talk.read_data() is None
        assert 0 == replica.wait_exit()


def test_ctrl_c_reaches_nobody_here() -> None:
    """SIGINT in the terminal is the gateway's to handle."""
    with loaded_replica(SLOW["sync"]) as replica:
        replica.process.send_signal(signal.SIGINT)

        assert 200 == replica.ask("GET", "/_/health").status


@pytest.mark.parametrize("line", [b"", b"hello\n", b"[]\n", b'{"function":"f"}\n'])
def test_a_boot_config_that_is_none_is_refused(line: bytes) -> None:
    """Exit code 2 and a sentence on stderr."""
    done = subprocess.run([sys.executable, runtime_folder()], input=line, capture_output=True, check=False)

    assert 2 == done.returncode
    assert done.stderr.startswith(b"tailrace runtime: ")


@pytest.mark.parametrize(("manner", "worker"), MANNERS)
def test_health_is_green_once_loaded(manner: str, worker: str) -> None:
    """Both paths answer as the watchdog's do; the connection stays."""
    with loaded_replica(SLOW[manner], worker=worker) as replica, replica.talk() as talk:
        for path in ("/_/health", "/_/ready", "/_/health"):
            talk.send("GET", path)
            assert (200, b"OK") == (lambda a: (a.status, a.body))(talk.read_answer())


def test_the_handler_sees_no_stdin_and_no_foreign_descriptors() -> None:
    """stdin is /dev/null, and a subprocess inherits neither lifeline nor reports."""
    source = """
import os, subprocess, sys
def handle(event, context):
    ls = ["ls", "/proc/self/fd"]
    fds = subprocess.run(ls, capture_output=True, text=True, close_fds=False).stdout.split()
    return {"stdin": sys.stdin.read(), "fds": len(fds), "argv": len(sys.argv)}
"""
    with loaded_replica(source) as replica:
        assert replica.ask().text.startswith('data: {"stdin":"","fds":4,"argv":1}\n\n')


def test_what_bypasses_python_still_reaches_the_pipes() -> None:
    """A subprocess that prints to the function's stdout does so on descriptor 1."""
    source = """
import subprocess, sys
def handle(event, context):
    subprocess.run(["echo", "from outside"], stdout=sys.stdout)
    return "ok"
"""
    with loaded_replica(source) as replica:
        assert replica.ask().is_whole
