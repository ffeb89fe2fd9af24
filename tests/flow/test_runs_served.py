"""Runs of real gateways with processes as replicas, on a NATS that is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.patience import wait_until
from tests.kit.runs import NatsServer
from tests.kit.served import Serve, replicas_of

pytestmark = pytest.mark.slow
HANDLER = """
import asyncio


async def handle(event, context):
    for number in range(1000):
        yield f"piece {number}"
        await asyncio.sleep(0.02)
"""
SHORT = """
async def handle(event, context):
    yield "one "
    yield "two"
    if event.body == b"fail":
        raise ValueError("it broke")
"""
RECORD = {"X-Tailrace-Record": "1", "X-Tailrace-On-Disconnect": "grace:10s"}


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    folder = tmp_path / "nats"
    folder.mkdir()
    with NatsServer(folder) as server:
        yield server


def test_a_killed_gateway_leaves_what_was_recorded(tmp_path: Path, nats: NatsServer) -> None:
    """kill -9 in the middle: the next start closes the run as lost; its part is there, with a true end."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    flags = ("--nats-url", nats.url)
    with serve.start(*flags) as (running, url):
        serve.deploy(url, "talk", HANDLER)
        with httpx.stream("POST", f"{url}/function/talk", headers=RECORD, timeout=30) as reply:
            run = reply.headers["x-call-id"]
            pieces = reply.iter_text()
            text = ""
            while "piece 20\n" not in text:
                text += next(pieces)
            os.kill(running.process.pid, signal.SIGKILL)
    wait_until(lambda: not replicas_of(serve.state), "the replicas end with their gateway")

    with serve.start(*flags) as (running, url), httpx.Client(base_url=url, timeout=30) as http:
        wait_until(lambda: http.get(f"/run/{run}").json()["state"] == "failed", "the run is closed")
        record = http.get(f"/run/{run}").json()
        again = http.get("/function/talk", headers={"Last-Event-ID": f"{run}-5", "X-Tailrace-Record": "1"})
        whole = http.get(f"/run/{run}/stream").text
        shown = _tailrace(serve.shell, "runs", "show", run, "--gateway", url, "--json")
        listed = _tailrace(serve.shell, "runs", "list", "--gateway", url, "--json")

        assert "replica_lost" == record["end_reason"]
        assert "piece 19\n" in whole
        assert '"code":"replica_lost"' in whole
        assert whole.endswith(again.text)
        assert record == json.loads(shown)
        assert [run] == [one["id"] for one in json.loads(listed)]


def test_a_run_is_watched_and_stopped_on_the_command_line(tmp_path: Path, nats: NatsServer) -> None:
    """Attached it prints the answer as it comes; stopped it ends, and attach with it."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with serve.start("--nats-url", nats.url) as (_, url):
        serve.deploy(url, "talk", HANDLER)
        with httpx.stream("POST", f"{url}/function/talk", headers=RECORD, timeout=30) as reply:
            run = reply.headers["x-call-id"]
            with serve.shell.start("runs", "attach", run, "--gateway", url) as attached:
                attached.wait_for("piece 5")
                stopped = _tailrace(serve.shell, "runs", "stop", run, "--gateway", url)
                attached.wait_for("error: the run was cancelled: the run was stopped")
                code = attached.wait_end()
        again = serve.shell.run("runs", "attach", run, "--gateway", url, "--json")
        raw = serve.shell.run("runs", "attach", run, "--gateway", url, "--raw")

        assert "cancelled" in stopped
        assert (1, 1, 1) == (code, again.returncode, raw.returncode)
        assert "data: " not in attached.text
        assert "piece 1piece 2piece 3" in attached.text
        assert "data: piece 1\n" in raw.stdout
        assert "piece 1" == json.loads(again.stdout.splitlines()[1])["data"]


def test_a_run_that_is_attached_ends_as_it_did(tmp_path: Path, nats: NatsServer) -> None:
    """Exit code 0 and its text for one that is done, 1 and the error for one that failed, also as JSON."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with serve.start("--nats-url", nats.url) as (_, url):
        serve.deploy(url, "short", SHORT)
        names = [
            httpx.post(f"{url}/function/short", content=body, headers=RECORD, timeout=30).headers["x-call-id"]
            for body in ("go", "fail")
        ]
        args = ("runs", "attach", "--gateway", url)
        done, failed = (serve.shell.run(*args, name) for name in names)
        as_json = [serve.shell.run(*args, name, "--json").returncode for name in names]

        assert (0, "one two\n") == (done.returncode, done.stdout)
        assert (1, "one two\n") == (failed.returncode, failed.stdout)
        assert "the run failed: " in failed.stderr
        assert [0, 1] == as_json


def test_a_gateway_says_when_its_nats_is_not_there(tmp_path: Path) -> None:
    """It does not start without what it was told to use."""
    shell = Shell(tmp_path)
    done = shell.run("serve", "--port", "0", "--metrics-port", "off", "--nats-url", "nats://127.0.0.1:9")

    assert 1 == done.returncode
    assert "NATS at nats://127.0.0.1:9 cannot be used" in done.stderr


def test_a_password_in_the_address_of_nats_is_not_repeated(tmp_path: Path) -> None:
    done = Shell(tmp_path).run("serve", "--nats-url", "nats://joe:hunter2@127.0.0.1:9")

    assert 2 == done.returncode
    assert "hunter2" not in done.stderr
    assert "nats_creds" in done.stderr


def test_bounds_may_be_lowered_and_raised_again(tmp_path: Path) -> None:
    """The embedded NATS holds what its streams have reserved until they are brought to the new ones."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    bounds: tuple[tuple[str, ...], ...] = (
        (), ("--async-max-bytes", "67108864", "--runs-max-bytes", "67108864"), (),
        ("--async-max-bytes", "2147483648"), (),
    )  # fmt: skip
    for flags in bounds:
        with serve.start(*flags) as (_, url):
            assert httpx.get(f"{url}/healthz", timeout=10).is_success


def _tailrace(shell: Shell, *args: str) -> str:
    done: subprocess.CompletedProcess[str] = shell.run(*args)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_gateway_with_a_nats_of_its_own_keeps_its_runs(tmp_path: Path) -> None:
    """NATS killed: it comes back, and runs are kept again. Its gateway killed: it goes too, the runs stay."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    flags = ("--nats-url", "embedded")
    conf = tmp_path / "state" / "nats" / "server.conf"

    def own() -> list[int]:
        return [
            int(entry.parent.name)
            for entry in Path("/proc").glob("[0-9]*/cmdline")
            if os.fsencode(conf) in _read(entry).split(b"\0")
        ]

    def ask(url: str) -> str:
        with httpx.stream("POST", f"{url}/function/talk", headers=RECORD, timeout=30) as reply:
            run: str = reply.headers["x-call-id"]
            text = ""
            for piece in reply.iter_text():
                text += piece
                if "piece 10\n" in text:
                    break
        httpx.delete(f"{url}/run/{run}")
        return run

    def kept(url: str) -> set[str]:
        """Runs that are over, as the store has them."""
        reply = httpx.get(f"{url}/runs", params={"state": "cancelled"})
        return {record["id"] for record in reply.json()["runs"]} if reply.status_code == 200 else set()

    with serve.start(*flags) as (running, url):
        serve.deploy(url, "talk", HANDLER)
        first = ask(url)
        wait_until(lambda: first in kept(url), "the first run is kept")
        assert 0o600 == conf.stat().st_mode & 0o777
        token = json.loads(conf.read_text())["authorization"]["token"]
        assert not any(token.encode() in _read(entry) for entry in Path("/proc").glob("[0-9]*/cmdline"))
        killed = own()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(own()) == 2 and not set(own()) & set(killed), "NATS is started again")
        wait_until(lambda: first in kept(url), "its runs are there again")
        second = ask(url)
        wait_until(lambda: second in kept(url), "runs are kept again")
        os.kill(running.process.pid, signal.SIGKILL)
    wait_until(lambda: not own(), "NATS ends with its gateway")

    with serve.start(*flags) as (running, url):
        replies = [httpx.get(f"{url}/run/{run}") for run in (first, second)]
        states = [reply.json()["state"] for reply in replies]
        text = httpx.get(f"{url}/run/{second}/stream", timeout=10).text
    wait_until(lambda: not own(), "NATS is ended with its gateway")

    assert ["cancelled", "cancelled"] == states
    assert "piece 10\n" in text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
