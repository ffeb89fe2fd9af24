"""Gateways and workers that do not belong together say so when they start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.patience import wait_until
from tests.kit.runs import NatsServer
from tests.kit.served import Serve, working

pytestmark = pytest.mark.slow
LOUD = "RESULTS CANNOT ALL BE CHECKED"


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    (tmp_path / "nats").mkdir()
    with NatsServer(tmp_path / "nats") as server:
        yield server


def test_a_worker_with_another_nats_than_its_gateway_does_not_start(tmp_path: Path, nats: NatsServer) -> None:
    """Whether that one was never used or is another gateway's; with the gateway's own it serves."""
    shell = Shell(tmp_path)
    (tmp_path / "other").mkdir()
    with NatsServer(tmp_path / "other") as other, Serve(shell, tmp_path / "state").start(
        "--nats-url", nats.url
    ) as (_, url):  # fmt: skip
        args = ("worker", "--metrics-port", "off", "--gateway-url", url, "--nats-url")
        unused = shell.run(*args, other.url)
        with Serve(shell, tmp_path / "state2").start("--nats-url", other.url):
            wrong = shell.run(*args, other.url)
        with working(shell, nats.url, url) as right:
            pass

        for done in (unused, wrong):
            assert 1 == done.returncode
            assert f"the gateway at {url} keeps its queue in another NATS than {other.url}" in done.stderr
            assert "--nats-url" in done.stderr
        assert LOUD not in right.text


def test_a_gateway_with_another_secret_says_so_once(tmp_path: Path, nats: NatsServer) -> None:
    """Not the first one, not one that starts again; of the secret nothing is told."""
    shell, state = Shell(tmp_path), tmp_path / "state"
    flags = ("--nats-url", nats.url)
    other = Serve(shell, tmp_path / "state2")
    told = []
    for serve in (Serve(shell, state), Serve(shell, state), other, other):
        with serve.start(*flags) as (running, _):
            told.append(running.text)

    assert [False, False, True, False] == [LOUD in text for text in told]
    assert "--callback-secret-file" in told[2]
    assert (tmp_path / "state2" / "callback.key").read_text()[:8] not in told[2]


def test_a_worker_that_lets_results_go_elsewhere_says_so(tmp_path: Path, nats: NatsServer) -> None:
    """It and its gateway do not agree about private addresses."""
    shell = Shell(tmp_path)
    with (
        Serve(shell, tmp_path / "state").start("--nats-url", nats.url) as (_, url),
        working(shell, nats.url, url, "--callback-allow-private") as worker,
    ):
        pass

    assert "callback_allow_private is true here and false at the gateway" in worker.text


def test_a_worker_names_its_own_option_where_no_gateway_answers(tmp_path: Path) -> None:
    """Not the one of the other commands."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    done = Shell(tmp_path).run("worker", "--gateway-url", url, "--nats-url", "nats://127.0.0.1:9")

    assert 1 == done.returncode
    assert f"no gateway answers at {url}" in done.stderr
    assert "--gateway-url URL" in done.stderr
    assert "--gateway URL" not in done.stderr


def test_a_store_is_the_same_after_a_restart_of_its_nats(tmp_path: Path, nats: NatsServer) -> None:
    """So a worker that starts after one is not refused; its gateway stayed."""
    shell = Shell(tmp_path)
    with Serve(shell, tmp_path / "state").start("--nats-url", nats.url) as (_, url):
        nats.kill()
        nats.start()
        with httpx.Client(base_url=url, timeout=30) as http:
            wait_until(lambda: bool(http.get("/system/queue-key").json().get("store")), "NATS is back", 20)
        with working(shell, nats.url, url):
            pass
