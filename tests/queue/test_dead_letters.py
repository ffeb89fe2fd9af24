"""Dead letters: seen, tried again and dropped, on the command line as over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nats as nats_py
import pytest

from tailrace.control.metrics.catalogue import WORKER
from tests.kit.chaos import FLAGS, deploy_script, receiving_in_thread
from tests.kit.cli import Shell
from tests.kit.metrics import wait_scrape
from tests.kit.patience import wait_until
from tests.kit.runs import NatsServer
from tests.kit.served import Serve, working

pytestmark = pytest.mark.slow
ONCE = {"com.openfaas.retry.attempts": "2", "com.openfaas.retry.min_wait": "10ms"}


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    folder = tmp_path / "nats"
    folder.mkdir()
    with NatsServer(folder) as server:
        yield server


def test_a_dead_letter_is_seen_and_tried_again(tmp_path: Path, nats: NatsServer) -> None:
    """Once what was wrong is mended, its call is made under the same id; a large body is still there."""
    serve, mended = Serve(Shell(tmp_path), tmp_path / "state"), tmp_path / "mended"
    body = b"large" * 100_000
    with serve.start("--nats-url", nats.url, *FLAGS) as (_, url), httpx.Client(base_url=url) as http:
        deploy_script(http, tmp_path, f"test -e {mended} || exit 1; cat\n", annotations=ONCE)
        name, other = (http.post("/async-function/fn", content=body).headers["x-call-id"] for _ in range(2))
        wait_until(lambda: len(http.get("/system/queue").json()["dead"]) == 2, "they are given up", 20)
        failed = http.get(f"/run/{name}").json()

        listed = tailrace(serve, url, "queue", "list")
        (shown,) = json.loads(tailrace(serve, url, "queue", "show", name, "--json"))
        mended.touch()
        retried = tailrace(serve, url, "queue", "retry", name)
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is made", 20)
        done = http.get(f"/run/{name}").json()
        dropped = tailrace(serve, url, "queue", "drop", other)
        left = json.loads(tailrace(serve, url, "queue", "list", "--json"))
        gone = serve.shell.run("queue", "show", other, "--gateway", url)

        assert ("failed", 2) == (failed["state"], failed["attempts"])
        assert name in listed
        assert ("call", name, 2, len(body), "/") == (
            shown["kind"], shown["id"], shown["tries"], shown["body_bytes"], shown["target"] or "/",
        )  # fmt: skip
        assert f"{name}: the call waits again\n" == retried
        assert (len(body), 1) == (done["bytes"], done["attempts"])
        assert f"{other}: the call is forgotten\n" == dropped
        assert [] == left["dead"]
        assert (1, True) == (gone.returncode, "there is no dead letter" in gone.stderr)


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_a_dead_letter_outlives_its_record(tmp_path: Path, nats: NatsServer, size: int) -> None:
    """Records are kept for less long: its call is made all the same, with its body."""
    serve, mended = Serve(Shell(tmp_path), tmp_path / "state"), tmp_path / "mended"
    body = b"x" * size
    with serve.start("--nats-url", nats.url, *FLAGS) as (_, url), httpx.Client(base_url=url) as http:
        deploy_script(http, tmp_path, f"test -e {mended} || exit 1; cat\n", annotations=ONCE)
        name = http.post("/async-function/fn", content=body).headers["x-call-id"]
        wait_until(lambda: bool(http.get("/system/queue").json()["dead"]), "it is given up", 20)
        asyncio.run(forget_records(nats.url))
        gone = http.get(f"/run/{name}").status_code
        mended.touch()
        again = http.post(f"/system/queue/{name}/retry").status_code
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is made", 20)

        assert (404, 202) == (gone, again)
        assert size == http.get(f"/run/{name}").json()["bytes"]
        assert 0 == http.get("/system/queue").json()["dead_total"]


async def forget_records(url: str) -> None:
    """What the age of a record does."""
    client = await nats_py.connect(url)
    await client.jetstream().purge_stream("TAILRACE_RECORDS")
    await client.close()


def test_a_call_that_is_tried_again_has_another_outcome(tmp_path: Path, nats: NatsServer) -> None:
    """Who remembers the outcomes that it has seen takes the good one after the failed one."""
    serve, mended = Serve(Shell(tmp_path), tmp_path / "state"), tmp_path / "mended"
    with (
        receiving_in_thread() as receiver,
        serve.start("--nats-url", nats.url, *FLAGS) as (_, url),
        httpx.Client(base_url=url) as http,
    ):
        deploy_script(http, tmp_path, f"test -e {mended} || exit 1; cat\n", annotations=ONCE)
        name = http.post("/async-function/fn", headers={"X-Callback-Url": receiver.url}).headers["x-call-id"]
        wait_until(lambda: len(receiver.came) == 1, "its failure came", 20)
        mended.touch()
        http.post(f"/system/queue/{name}/retry").raise_for_status()
        wait_until(lambda: len(receiver.came) == 2, "its result came", 20)
        secret = tailrace(serve, url, "queue", "key").strip().encode()

    failed, done = receiver.came
    assert [(name, f"{name}-1"), (name, f"{name}-2")] == [(one.run, one.delivery) for one in receiver.came]
    assert (True, "200") == ("x-tailrace-error" in failed.headers, done.headers["x-function-status"])
    assert failed.is_signed(secret)
    assert done.is_signed(secret)


def test_a_delivery_that_was_given_up_is_made_again(tmp_path: Path, nats: NatsServer) -> None:
    """The run is as it was; the result comes when its receiver takes it."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with (
        receiving_in_thread() as receiver,
        serve.start("--nats-url", nats.url, *FLAGS) as (_, url),
        httpx.Client(base_url=url) as http,
    ):
        receiver.answer = lambda _: (410, "")
        deploy_script(http, tmp_path, "cat\n")
        name = http.post("/async-function/fn", headers={"X-Callback-Url": receiver.url}).headers["x-call-id"]
        wait_until(lambda: bool(http.get("/system/queue").json()["dead"]), "it is given up", 20)
        receiver.answer = lambda _: (200, "")
        (letter,) = http.post(f"/system/queue/{name}/retry").json()
        wait_until(lambda: len(receiver.came) == 2, "it came again", 20)
        secret = tailrace(serve, url, "queue", "key").strip().encode()

        assert ("callback", receiver.url) == (letter["kind"], letter["callback_url"])
        assert [name, name] == [one.run for one in receiver.came]
        assert [f"{name}-1"] * 2 == [one.delivery for one in receiver.came]
        assert receiver.came[1].is_signed(secret)


def test_the_queue_is_the_admins(tmp_path: Path, nats: NatsServer) -> None:
    """With auth its routes ask for the password, and so does a worker's door; calling a function does not."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    flags = ("--nats-url", nats.url, "--auth", "--async-queues", "off", *FLAGS)
    with serve.start(*flags) as (running, url), httpx.Client(base_url=url) as http:
        password = running.wait_for(r"password (\S+) ")[1]
        with httpx.Client(base_url=url, auth=("admin", password)) as admin:
            deploy_script(admin, tmp_path, "cat\n")
        asked: list[Any] = [
            http.get("/system/queue"),
            http.get("/system/queue-key"),
            http.post("/system/queue-calls", content=b"x"),
            http.post(f"/system/queue/{'a' * 26}/retry"),
        ]
        sent = http.post("/async-function/fn", content=b"hi")
        name = sent.headers["x-call-id"]
        own = url.replace("http://", f"http://admin:{password}@")
        with working(serve.shell, nats.url, own, *FLAGS, metrics="0") as worker:
            metrics = worker.wait_for(r"metrics at (\S+)")[1]
            wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "the worker made it", 20)
            told = wait_scrape(metrics, lambda found: found.value("tailrace_async_in_hand") == 0)
            code, _ = worker.stop()
        refused = serve.shell.run("worker", "--nats-url", nats.url, "--gateway-url", url)

        assert [401] * 4 == [reply.status_code for reply in asked]
        assert (202, 0) == (sent.status_code, code)
        ours = {family.name.removesuffix("_total") for family in WORKER}
        assert ours == {name for name in told.families if not name.startswith("process_")}
        assert (1, True) == (refused.returncode, "password" in refused.stderr)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "a worker needs a gateway"),
        (("--gateway-url", "http://127.0.0.1:9"), "a worker needs the NATS of its gateway"),
        (("--gateway-url", "http://127.0.0.1:9", "--nats-url", "embedded"), "a worker needs the NATS"),
        (("--gateway-url", "http://127.0.0.1:9", "--nats-url", "nats://127.0.0.1:9"), "no gateway answers"),
    ],
)
def test_a_worker_says_what_it_needs(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    """It does not start without a NATS and a gateway."""
    done = Shell(tmp_path).run("worker", *args)

    assert 1 == done.returncode
    assert words in done.stderr


def test_without_nats_a_call_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """503: which setting it takes; an unknown function is 404 all the same."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with serve.start("--nats-url", "off") as (_, url), httpx.Client(base_url=url) as http:
        deploy_script(http, tmp_path, "cat\n")
        known, unknown = http.post("/async-function/fn"), http.post("/async-function/other")

        assert (503, True) == (known.status_code, "--nats-url off" in known.text)
        assert 404 == unknown.status_code


def tailrace(serve: Serve, url: str, *args: str) -> str:
    done: subprocess.CompletedProcess[str] = serve.shell.run(*args, "--gateway", url)
    assert 0 == done.returncode, done.stderr
    return done.stdout
