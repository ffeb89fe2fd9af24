"""Replicas on wish: scaled up, down, to zero, woken by a call, by an alert, and after a restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import httpx
import pytest

from tailrace.functions.scale import alerted
from tests.kit.gateway import Town, running_town

pytestmark = pytest.mark.slow
HANDLER = "import os\n\n\ndef handle(req):\n    return str(os.getpid())\n"


def status(http: httpx.Client, name: str) -> dict[str, object]:
    found: dict[str, object] = http.get(f"/system/function/{name}").json()
    return found


def wait_for(ask: Callable[[], object], wanted: object) -> None:
    """Ask until the answer is the one that is wanted, at most 20 s."""
    until = time.monotonic() + 20
    while (found := ask()) != wanted:
        assert time.monotonic() < until, found
        time.sleep(0.02)


def scale(http: httpx.Client, name: str, replicas: int) -> int:
    body = {"serviceName": name, "replicas": replicas}
    return http.post(f"/system/scale-function/{name}", json=body).status_code


def test_a_function_has_as_many_replicas_as_it_was_scaled_to(town: Town) -> None:
    """Up to three, down to one; a new deployment keeps the count."""
    town.deploy("many", HANDLER)
    with town.http() as http:
        up = scale(http, "many", 3)
        wait_for(lambda: status(http, "many").get("availableReplicas"), 3)
        town.deploy("many", HANDLER + "# new\n")
        wait_for(lambda: status(http, "many").get("availableReplicas"), 3)
        scale(http, "many", 1)
        wait_for(lambda: status(http, "many").get("availableReplicas"), 1)

    assert 202 == up


def test_the_next_call_wakes_a_function_that_was_scaled_to_zero(town: Town) -> None:
    """It stays deployed without a replica, says that it is idle, and answers the call that comes."""
    town.deploy("sleepy", HANDLER)
    with town.http() as http:
        before = http.post("/function/sleepy").text
        scale(http, "sleepy", 0)
        wait_for(lambda: status(http, "sleepy").get("availableReplicas", 0), 0)
        asleep = status(http, "sleepy")
        answer = http.post("/function/sleepy")

    assert "replicas" not in asleep  # omitted, as zero is
    assert "idle" == asleep["tailrace"]["state"]  # type: ignore[index]  # an object
    assert 200 == answer.status_code
    assert before != answer.text


def test_a_count_survives_a_restart(tmp_path: Path) -> None:
    """Also zero: nothing runs until it is called."""
    with running_town(tmp_path, persistent=True) as town, town.http() as http:
        town.deploy("kept", HANDLER)
        assert 202 == scale(http, "kept", 0)
    with running_town(tmp_path, persistent=True) as town, town.http() as http:
        found = status(http, "kept")
        answer = http.post("/function/kept")

    assert "availableReplicas" not in found
    assert "idle" == found["tailrace"]["state"]  # type: ignore[index]  # an object
    assert 200 == answer.status_code


@pytest.mark.parametrize(
    ("replicas", "path"), [(-1, "many"), (101, "many"), (2**63, "many"), (1, "none"), (1, "..%2f")]
)
def test_odd_counts_and_names_are_refused(town: Town, replicas: int, path: str) -> None:
    with town.http() as http:
        town.deploy("many", HANDLER)
        reply = http.post(
            f"/system/scale-function/{path}", json={"serviceName": "many", "replicas": replicas}
        )

    assert reply.status_code in (400, 404)
    assert reply.text


def test_an_alert_scales_up_and_its_end_scales_back(town: Town) -> None:
    """Alertmanager's own shape; ten percent of the most is a step."""
    labels = {"com.openfaas.scale.max": "20", "com.openfaas.scale.factor": "10"}
    town.deploy("busy", HANDLER, labels=labels)

    def notice(state: str) -> dict[str, object]:
        alert = {"status": state, "labels": {"alertname": "load", "function_name": "busy.openfaas-fn"}}
        return {"status": state, "receiver": "scale-up", "alerts": [alert]}

    with town.http() as http:
        fired = http.post("/system/alert", json=notice("firing"))
        count = status(http, "busy")["replicas"]
        resolved = http.post("/system/alert", json=notice("resolved"))
        after = status(http, "busy")["replicas"]
        odd = http.post("/system/alert", json={"alerts": [{"labels": {"function_name": "none"}}]})

    assert [200, 200, 400] == [fired.status_code, resolved.status_code, odd.status_code]
    assert (3, 1) == (count, after)
    assert odd.text.startswith("[0] ")


def alert(name: str, state: str) -> dict[str, object]:
    return {"status": state, "labels": {"alertname": "load", "function_name": name}}


def test_alerts_that_come_again_stay_between_the_least_and_the_most(town: Town) -> None:
    """However many, in one notice or in many at once; the last one that is resolved leads to the least."""
    labels = {"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "30"}
    town.deploy("stormy", HANDLER, labels=labels)
    notices = [{"alerts": [alert("stormy", state)] * 40} for state in ("firing", "resolved")]
    seen: set[object] = set()
    with town.http() as http, ThreadPoolExecutor(8) as pool:
        for storm in (notices[:1] * 8, notices * 8, notices[1:] * 8):
            sent = [pool.submit(http.post, "/system/alert", json=notice) for notice in storm]
            while not all(one.done() for one in sent):
                seen.add(status(http, "stormy")["replicas"])
            assert {200} == {one.result().status_code for one in sent}
            seen.add(status(http, "stormy")["replicas"])
        after = status(http, "stormy")["replicas"]
        odd = http.post("/system/alert", json={"alerts": [alert("stormy", "FIRING"), alert("", "firing")]})
        unchanged = status(http, "stormy")["replicas"]

    assert {2, 3, 4} >= seen >= {2, 4}
    assert (2, 2) == (after, unchanged)
    assert 400 == odd.status_code


def test_an_alert_that_is_over_leaves_nothing_behind(town: Town) -> None:
    """A later deployment with another least has that one, as if no alert had been."""
    town.deploy("calm", HANDLER)
    with town.http() as http:
        for state in ("firing", "resolved"):
            http.post("/system/alert", json={"alerts": [alert("calm", state)]})
        before = status(http, "calm")["replicas"]
        town.deploy("calm", HANDLER, labels={"com.openfaas.scale.min": "2"})
        after = status(http, "calm")["replicas"]

    assert (1, 2) == (before, after)


def test_a_call_wakes_a_function_where_none_may_wait(tmp_path: Path) -> None:
    """With a queue of 0 the call that wakes it has a place; the next ones are refused meanwhile."""
    with running_town(tmp_path, flags={"queue_limit": 0}) as town, town.http() as http:
        town.deploy("sleepy", "import time\ntime.sleep(0.5)\n" + HANDLER)
        scale(http, "sleepy", 0)
        wait_for(lambda: status(http, "sleepy").get("availableReplicas", 0), 0)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: http.post("/function/sleepy").status_code, range(3)))
        later = http.post("/function/sleepy").status_code

    assert [200, 429, 429] == sorted(answers)
    assert 200 == later


@pytest.mark.parametrize(
    ("current", "factor", "is_firing", "wanted"),
    [
        (1, 10, True, 3), (19, 10, True, 20), (20, 10, True, 20), (5, 10, False, 2), (0, 1, True, 2),
        (7, 0, True, 7), (7, 0, False, 7), (1, 100, True, 20),
        (100, 10, True, 20), (100, 10, False, 2), (-5, 10, True, 2), (2, 35, True, 9),
    ],
)  # fmt: skip
def test_a_step_is_a_share_of_the_most(current: int, factor: int, is_firing: bool, wanted: int) -> None:
    found = alerted(current, least=2, most=20, factor=factor, is_firing=is_firing)

    assert wanted == found


def test_a_step_is_rounded_up_once() -> None:
    """14 % of 50 are 7 and not the 8 of floating point; never under the least nor over the most."""
    steps = [
        (most, factor, alerted(1, least=1, most=most, factor=factor, is_firing=True))
        for most in range(1, 101)
        for factor in range(1, 101)
    ]

    assert [(m, f, min(m, 1 + math.ceil(Fraction(m * f, 100)))) for m, f, _ in steps] == steps


def test_usage_is_the_replicas_own(town: Town) -> None:
    """Memory of a Python process that is there; CPU of the next tenth of a second."""
    town.deploy("used", HANDLER)
    with town.http() as http:
        found = http.get("/system/function/used", params={"usage": "1"}).json()
        without = http.get("/system/function/used").json()

    assert found["usage"]["totalMemoryBytes"] > 5_000_000
    assert 0 <= found["usage"].get("cpu", 0) < 4000
    assert "usage" not in without
