"""kill -9 loses no call that was accepted, whatever it meets: gateway, worker, NATS."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvloop
from nats import connect

from tailrace.runs.store import Store
from tests.kit.chaos import FLAGS, deploy_script, receiving_in_thread, run_chaos
from tests.kit.cli import Shell
from tests.kit.patience import wait_until
from tests.kit.runs import NatsCluster, NatsServer, Talker, post
from tests.kit.served import Serve

pytestmark = pytest.mark.slow


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    folder = tmp_path / "nats"
    folder.mkdir()
    with NatsServer(folder) as server:
        yield server


def test_an_accepted_call_survives_the_gateway_and_nats(tmp_path: Path, nats: NatsServer) -> None:
    """Both are killed right after the 202s; after their next start every call runs."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    flags = ("--nats-url", nats.url, *FLAGS)
    with serve.start(*flags, "--async-queues", "off") as (running, url), httpx.Client(base_url=url) as http:
        deploy_script(http, tmp_path, "cat\n")
        sent = [http.post("/async-function/fn", content=b"x" * size) for size in (1, 300_000, 2_000_000)]
        nats.kill()
        os.kill(running.process.pid, signal.SIGKILL)
    nats.start()
    names = [reply.headers["x-call-id"] for reply in sent]

    with serve.start(*flags) as (_, url), httpx.Client(base_url=url, timeout=30) as http:

        def record(name: str) -> dict[str, object]:
            found: dict[str, object] = http.get(f"/run/{name}").json()
            return found

        for name in names:
            wait_until(lambda name=name: record(name).get("state") == "done", "it runs", 20)  # type: ignore[misc]

        assert [202] * 3 == [reply.status_code for reply in sent]
        assert [1, 300_000, 2_000_000] == [record(name)["bytes"] for name in names]


def kept_attempts(nats_url: str, run: str) -> int:
    """How often a run was begun, as NATS has it."""

    async def ask() -> int:
        client = await connect(nats_url)
        try:
            record = await Store(client).find_record(run)
        finally:
            await client.close()
        return record.attempts if record is not None else 0

    return asyncio.run(ask())


def test_a_call_whose_gateway_is_killed_is_made_again(tmp_path: Path, nats: NatsServer) -> None:
    """It was being made and had said nothing: the next start makes it, under the same id."""
    serve, mark = Serve(Shell(tmp_path), tmp_path / "state"), tmp_path / "starts"
    script = f'echo "$Http_X_Call_Id" >> {mark}; test $(wc -l < {mark}) -gt 1 || sleep 60; echo done\n'
    flags = ("--nats-url", nats.url, *FLAGS)
    with serve.start(*flags) as (running, url), httpx.Client(base_url=url) as http:
        deploy_script(http, tmp_path, script)
        name = http.post("/async-function/fn").headers["x-call-id"]
        wait_until(lambda: mark.exists() and bool(mark.read_text()), "it is being made")
        wait_until(lambda: kept_attempts(nats.url, name) == 1, "that is written down")
        os.kill(running.process.pid, signal.SIGKILL)

    with serve.start(*flags) as (_, url), httpx.Client(base_url=url, timeout=30) as http:
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is made again", 20)
        record = http.get(f"/run/{name}").json()

        assert [name, name] == mark.read_text().split()
        assert 2 == record["attempts"]


def test_no_call_is_lost_while_all_is_killed(tmp_path: Path) -> None:
    """Gateway, worker and NATS, six times; every accepted call reaches its callback, under its own id.

    `scripts/soak flow` does it with 200 calls and 20 kills.
    """
    chaos = run_chaos(tmp_path, calls=40, kills=6, seed=3, limit_s=60)

    assert [] == chaos.lost
    assert 40 == len(chaos.accepted)
    assert set(chaos.accepted) <= set(chaos.came)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_the_embedded_nats_keeps_calls_too(tmp_path: Path) -> None:
    """The gateway is killed, and its NATS with it; the next start of both makes the calls."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with receiving_in_thread() as receiver:
        flags = ("--nats-url", "embedded", *FLAGS)
        with (
            serve.start(*flags, "--async-queues", "off") as (running, url),
            httpx.Client(base_url=url) as http,
        ):
            deploy_script(http, tmp_path, "cat\n")
            headers = {"X-Callback-Url": receiver.url}
            names = {http.post("/async-function/fn", headers=headers).headers["x-call-id"] for _ in range(20)}
            os.kill(running.process.pid, signal.SIGKILL)
        with serve.start(*flags) as (_, url):
            wait_until(lambda: names <= {one.run for one in receiver.came}, "all results came", 30)


def test_every_write_may_wait_for_the_disk(tmp_path: Path) -> None:
    """`--nats-sync-s 0`: the embedded NATS says so in its configuration, and calls are kept and made."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with serve.start("--nats-url", "embedded", "--nats-sync-s", "0") as (_, url), httpx.Client() as http:
        conf = (tmp_path / "state" / "nats" / "server.conf").read_text()
        http.base_url = httpx.URL(url)
        deploy_script(http, tmp_path, "cat\n")
        name = http.post("/async-function/fn", content=b"hi").headers["x-call-id"]
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is made", 20)

        assert '"sync_interval": "always"' in conf


def test_a_cluster_loses_a_server_and_no_call(tmp_path: Path) -> None:
    """Three servers with three copies; one is killed while calls wait, are made and come in."""

    async def main(cluster: NatsCluster) -> None:
        talker = Talker(3, gap_s=0.05)
        async with post(cluster.url, talker) as a, a.http() as http:
            names: list[str] = []
            for number in range(40):
                if number == 15:
                    cluster.nodes[0].kill()
                while True:  # while servers choose a leader, 503 may be the answer
                    reply = await http.post("/async-function/fn")
                    if reply.status_code == 202:
                        break
                names.append(reply.headers["x-call-id"])
            left = set(names)
            async with asyncio.timeout(60):
                while left:  # nor can a record be read then
                    for name in list(left):
                        found = await http.get(f"/run/{name}")
                        if found.status_code == 200 and found.json()["state"] == "done":
                            left.discard(name)
                    await asyncio.sleep(0.05)

            assert set(names) <= {call.headers["x-call-id"] for call in talker.calls}

    with NatsCluster(tmp_path) as cluster:
        wait_until(cluster.is_ready, "the cluster has a leader", 20)
        uvloop.run(main(cluster))
