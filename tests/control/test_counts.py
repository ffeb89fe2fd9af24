"""``invocationCount``: the calls that are over, whatever became of the replicas that answered them."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.kit.gateway import Town
from tests.kit.metrics import scrape
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow
HANDLER = """
import time

def handle(req):
    if req == "fail":
        raise ValueError("asked to")
    if req == "stream":
        def words():
            while True:
                yield "word "
                time.sleep(0.02)
        return words()
    return "done"
"""


def count(http: httpx.Client, name: str) -> int:
    """What the list says; omitted, as zero is."""
    found = [f for f in http.get("/system/functions").json() if f["name"] == name]
    return int(found[0].get("invocationCount", 0))


def settle(http: httpx.Client, name: str, wanted: int) -> None:
    """A call's end is counted a moment after its client saw it."""
    wait_until(lambda: count(http, name) == wanted, f"{wanted} calls of {name} are counted")


def test_calls_are_counted_when_they_are_over_however_they_end(town: Town) -> None:
    """Answered, failed, left by their client; one that runs is not counted yet. As the metrics have it."""
    town.deploy("counted", HANDLER)
    with town.http() as http:
        before = count(http, "counted")
        for body in ("", "", "fail"):
            http.post("/function/counted", content=body)
        settle(http, "counted", 3)
        with http.stream("POST", "/function/counted", content="stream") as reply:
            pieces = reply.iter_raw()  # kept: a generator that is dropped closes the connection
            next(pieces)
            running = count(http, "counted")
        settle(http, "counted", 4)
        total = scrape(town.gateway.metrics.url).value(
            "gateway_function_invocation_total", function_name="counted.openfaas-fn"
        )

    assert (0, 3, 4.0) == (before, running, total)


def test_calls_of_replicas_that_are_gone_stay_counted(town: Town) -> None:
    """Killed, scaled away, or replaced by new code; only the function itself takes its count along."""
    town.deploy("lasting", HANDLER)
    with town.http() as http:
        http.post("/function/lasting")
        status = http.get("/system/function/lasting").json()
        os.kill(status["tailrace"]["replicas"][0]["pid"], signal.SIGKILL)
        http.post("/function/lasting")
        settle(http, "lasting", 2)
        http.post("/system/scale-function/lasting", json={"serviceName": "lasting", "replicas": 0})
        wait_until(
            lambda: not http.get("/system/function/lasting").json()["tailrace"].get("replicas"),
            "it is at zero",
        )
        asleep = count(http, "lasting")
        town.deploy("lasting", HANDLER + "# new\n")
        http.post("/function/lasting")
        settle(http, "lasting", 3)

    assert 2 == asleep


def test_the_count_stands_in_the_list_alone(town: Town) -> None:
    """As in OpenFaaS, where the status of one function has none; zero is absent, as it is everywhere."""
    town.deploy("listed", HANDLER)
    town.deploy("unused", HANDLER)
    with town.http() as http:
        http.post("/function/listed")
        settle(http, "listed", 1)
        listed = {f["name"]: f for f in http.get("/system/functions").json()}
        alone = http.get("/system/function/listed").json()

    assert "invocationCount" not in alone
    assert "invocationCount" not in listed["unused"]
    assert isinstance(listed["listed"]["invocationCount"], int)
