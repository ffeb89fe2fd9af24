"""Runs of real gateways with processes as replicas, on a NATS that is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
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
                attached.wait_for("the run was stopped")

        assert "cancelled" in stopped


def test_a_gateway_says_when_its_nats_is_not_there(tmp_path: Path) -> None:
    """It does not start without what it was told to use."""
    shell = Shell(tmp_path)
    done = shell.run("serve", "--port", "0", "--metrics-port", "off", "--nats-url", "nats://127.0.0.1:9")

    assert 1 == done.returncode
    assert "no NATS answers at nats://127.0.0.1:9" in done.stderr


def _tailrace(shell: Shell, *args: str) -> str:
    done: subprocess.CompletedProcess[str] = shell.run(*args)
    assert 0 == done.returncode, done.stderr
    return done.stdout
