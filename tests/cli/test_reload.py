"""Settings read again by a gateway that runs: SIGHUP and `tailrace reload`."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Running, Shell
from tests.kit.served import Serve

pytestmark = pytest.mark.slow

# Silent for as many seconds as the query says.
HANDLER = """
import asyncio

async def handle(event, context):
    yield "first"
    await asyncio.sleep(float(event.query["s"]))
"""


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A state directory that no gateway has had."""
    return Serve(Shell(tmp_path), tmp_path / "state")


def reload(serve: Serve) -> subprocess.CompletedProcess[str]:
    return serve.shell.run("reload", "--state-dir", str(serve.state))


def test_a_changed_file_is_in_force_for_the_next_call(serve: Serve, tmp_path: Path) -> None:
    """Clocks change while a stream runs, which stays whole; what cannot change is told; so is each change."""
    file = tmp_path / "settings.toml"
    file.write_text("idle_timeout_s = 10\nqueue_limit = 5\n")
    with serve.start("--settings", str(file)) as (running, url):
        serve.deploy(url, "quiet", HANDLER)
        with httpx.stream("GET", f"{url}/function/quiet?s=1.5", timeout=30) as old:
            pieces = old.iter_text()
            first = next(pieces)
            file.write_text("idle_timeout_s = 0.5\nlog_lines = 100\nport = 1\n")

            done = reload(serve)
            new = httpx.get(f"{url}/function/quiet?s=3").text

            text = first + "".join(pieces)
        assert (0, "") == (done.returncode, done.stderr)
        assert done.stdout.splitlines() == [
            "settings reloaded",
            "idle_timeout_s 10.0 -> 0.5 seconds  (file)",
            "queue_limit 5 -> 64 calls  (default)",
            "needs a restart: log_lines 5000 -> 100 lines  (file)",
        ]
        running.wait_for(r"^tailrace +idle_timeout_s 10\.0 -> 0\.5 seconds")
        assert '"code":"timeout_idle"' in new
        assert "event: error" not in text
        assert text.endswith("event: end\ndata: {}\n\n")


@pytest.mark.parametrize("line", ['tls_cert = "~nobody-here/x"', f"queue_limit = {'[' * 5000}"])
def test_a_file_that_cannot_be_read_at_all_ends_no_gateway(serve: Serve, tmp_path: Path, line: str) -> None:
    """Neither a home that nobody has nor brackets without an end are more than a mistake."""
    file = tmp_path / "settings.toml"
    file.write_text("queue_limit = 5\n")
    with serve.start("--settings", str(file)) as (running, url):
        file.write_text(f"{line}\n")

        done = reload(serve)

        assert (1, 200) == (done.returncode, httpx.get(f"{url}/healthz").status_code)
        assert "error: not reloaded, the settings stay as they are: settings file" in done.stderr
        running.wait_for(r"^tailrace +not reloaded, the settings stay as they are: ")


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are Linux's")
def test_a_reload_on_a_full_disk_ends_no_gateway(tmp_path: Path) -> None:
    """What cannot be written for `tailrace reload` stands in the log; the settings are in force."""
    file = tmp_path / "settings.toml"
    file.write_text("queue_limit = 5\n")
    serve = Serve(Shell(tmp_path, {"PYTHONDONTWRITEBYTECODE": "1"}), tmp_path / "state")  # which would be cut
    with serve.start("--settings", str(file)) as (running, url):
        file.write_text("queue_limit = 6\n")
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

        running.process.send_signal(signal.SIGHUP)

        running.wait_for(r"^tailrace +queue_limit 5 -> 6 calls")
        running.wait_for(r"^tailrace +`tailrace reload` cannot be told, reload.json cannot be written: File ")
        assert 200 == httpx.get(f"{url}/healthz").status_code


def test_a_broken_file_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    """Exit code 1 and the mistake, here and in the log; the gateway goes on; the next good file is taken."""
    file = tmp_path / "settings.toml"
    file.write_text("queue_limit = 5\n")
    with serve.start("--settings", str(file)) as (running, url):
        file.write_text("queue_limit = 'many'\n")
        broken = reload(serve)
        health = httpx.get(f"{url}/healthz").status_code
        file.write_text("queue_limit = 6\n")
        mended = reload(serve)

        assert (1, 200, 0) == (broken.returncode, health, mended.returncode)
        assert "error: not reloaded, the settings stay as they are: settings file" in broken.stderr
        assert 'queue_limit = "many" is not valid: expected a whole number' in broken.stderr
        running.wait_for(r"^tailrace +not reloaded, the settings stay as they are: ")
        assert "queue_limit 5 -> 6 calls  (file)" in mended.stdout


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('host = "0.0.0.0"', "without auth"),
        ('tls_cert = "nowhere.pem"', "tls_key"),
        ('domain = "localhost"', "without auth"),
    ],
)
def test_what_a_start_would_refuse_a_reload_refuses(
    serve: Serve, tmp_path: Path, line: str, why: str
) -> None:
    """Also where the setting needs a restart: the next start must not be the one that finds out."""
    file = tmp_path / "settings.toml"
    file.write_text("queue_limit = 5\n")
    with serve.start("--settings", str(file)):
        file.write_text(f"queue_limit = 6\n{line}\n")

        done = reload(serve)

        assert done.returncode == 1
        assert "not reloaded, the settings stay as they are" in done.stderr
        assert why in done.stderr


def test_without_a_gateway_a_reload_says_so(serve: Serve) -> None:
    """Also after one that was killed, whose traces are left."""
    never = reload(serve)
    with serve.start() as (running, _):
        running.stop(signal.SIGKILL)
        killed = reload(serve)

    assert [(1, "")] * 2 == [(done.returncode, done.stdout) for done in (never, killed)]
    for done in (never, killed):
        assert f"error: no gateway runs with the state directory '{serve.state}'" in done.stderr


def test_up_is_not_stopped_by_a_reload(serve: Serve, tmp_path: Path) -> None:
    """It reads its settings once; SIGHUP would end it, so none is sent."""
    assert serve.shell.run("new", "talk").returncode == 0
    args = ["up", "--port", "0", "--metrics-port", "off", "--state-dir", str(serve.state)]
    with serve.shell.start(*args) as running:
        running.wait_for(r"^talk +ready in")

        done = reload(serve)

        assert (1, None) == (done.returncode, running.process.poll())
        assert f"takes no reload: pid {running.process.pid}" in done.stderr


@contextmanager
def on_a_terminal(serve: Serve, *, is_ignoring: bool = False) -> Iterator[tuple[Running, int]]:
    """`tailrace serve` in the foreground of a terminal, and the terminal's other end."""
    ours, theirs = pty.openpty()
    code = "import os, pty, signal, sys, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN);" if is_ignoring else ""
    code += "from tailrace.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--port", "0", "--metrics-port", "off"],
        env={**os.environ, "HOME": str(serve.shell.folder), "TAILRACE_STATE_DIR": str(serve.state)},
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        running = Running(process)
        running.wait_for("listening on")
        yield running, ours
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_hang_up_reloads_while_the_terminal_is_there_and_stops_when_it_is_gone(serve: Serve) -> None:
    """`kill -HUP` is told from a window that was closed."""
    with on_a_terminal(serve) as (running, terminal):
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("settings reloaded")

        os.close(terminal)

        assert 0 == running.wait_end()


def test_after_nohup_a_closed_terminal_stops_nothing(serve: Serve) -> None:
    """Who has SIGHUP ignored wants the gateway to outlive the terminal."""
    with on_a_terminal(serve, is_ignoring=True) as (running, terminal):
        os.close(terminal)
        running.wait_for("settings reloaded")

        running.process.send_signal(signal.SIGHUP)
        running.wait_for("settings reloaded", after=running.text.index("settings reloaded") + 10)
        code, _ = running.stop(signal.SIGTERM)

    assert code == 0
