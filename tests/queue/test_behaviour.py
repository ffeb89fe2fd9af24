"""Behaviour 17: asynchronous runs can be looked up and watched; results arrive, late if need be, and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kit.chaos import receiving_in_thread
from tests.kit.gateway import Town, running_town
from tests.kit.patience import wait_until
from tests.kit.runs import NatsCluster, free_port

pytestmark = pytest.mark.slow
# Behaviour 17 says 30 s: the waits between tries double, so the length of the outage changes little.
DOWN_S = 3.0
STREAM = """
import asyncio

async def handle(event, context):
    for number in range(5):
        yield f"piece {number}"
        await asyncio.sleep(0.2)
"""
BUSY = """
CALLS = []

def handle(event, context):
    CALLS.append(1)
    if len(CALLS) < 3:
        return {"statusCode": 429, "body": "busy", "headers": {"Retry-After": "1"}}
    return {"statusCode": 200, "body": f"call {len(CALLS)}"}
"""


@pytest.fixture(scope="module", params=["embedded", "three servers"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway with a NATS of its own, and one on a cluster that keeps three copies."""
    flags: dict[str, object] = {"callback_allow_private": "true", "async_retry_min_wait_s": 0.1}
    folder: Path = tmp_path_factory.mktemp("town")
    if request.param == "embedded":
        with running_town(folder, flags={"nats_url": "embedded", **flags}) as town:
            yield town
        return
    with NatsCluster(tmp_path_factory.mktemp("nats")) as cluster:
        wait_until(cluster.is_ready, "the cluster has a leader", 20)
        with running_town(folder, flags={"nats_url": cluster.url, "runs_copies": 3, **flags}) as town:
            yield town


def test_asynchronous_runs_can_be_looked_up_and_watched(town: Town) -> None:
    """202 with an id; status and live events by it; a receiver that was down gets it later, once, signed."""
    town.deploy("talk", STREAM, lang="python3-stream")
    port = free_port()
    with town.http() as http:
        headers = {"X-Callback-Url": f"http://127.0.0.1:{port}/result"}
        sent = http.post("/async-function/talk", headers=headers)
        name = sent.headers["x-call-id"]
        with http.stream("GET", f"/run/{name}/stream") as watching:
            pieces = watching.iter_text()
            first = next(piece for piece in pieces if "piece 0" in piece)
            during = http.get(f"/run/{name}").json()
            seen = first + "".join(pieces)
        after = http.get(f"/run/{name}").json()
        time.sleep(DOWN_S)
        with receiving_in_thread(port) as receiver:
            wait_until(lambda: bool(receiver.came), "the result came", 30)
            wait_until(lambda: not http.get("/system/queue").json()["dead"], "nothing is given up")
        secret = http.get("/system/queue-key").json()["secret"].encode()

    assert (202, b"") == (sent.status_code, sent.content)
    assert ("streaming", True) == (during["state"], during["async"])
    assert "data: piece 4\n\n" in seen
    assert seen.endswith("event: end\ndata: {}\n\n")
    assert ("done", 200, 1) == (after["state"], after["status"], after["attempts"])
    assert [(name, "200")] == [(one.run, one.headers["x-function-status"]) for one in receiver.came]
    assert receiver.came[0].is_signed(secret)
    assert b"data: piece 4\n\n" in receiver.came[0].body


def test_a_busy_function_is_asked_again(town: Town) -> None:
    """It answers 429 twice, with `Retry-After`; the third try is the result."""
    town.deploy("busy", BUSY, lang="python3-http")
    with town.http() as http:
        name = http.post("/async-function/busy").headers["x-call-id"]
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is done", 30)
        record = http.get(f"/run/{name}").json()

        assert (200, 3) == (record["status"], record["attempts"])
        assert "call 3" == http.get(f"/run/{name}/stream").text


def test_the_metrics_tell_of_the_queue(town: Town) -> None:
    """What was taken in, and what waits."""
    town.deploy("busy", BUSY, lang="python3-http")
    with town.http() as http:
        name = http.post("/async-function/busy").headers["x-call-id"]
        wait_until(lambda: http.get(f"/run/{name}").json()["state"] == "done", "it is done", 30)
    text = httpx.get(town.gateway.metrics.url).text

    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tailrace_async"))
    assert float(values["tailrace_async_queued_total"]) >= 1
    assert "tailrace_async_dead_total" in values
    assert "tailrace_async_waiting" in values
