"""A schedule calls its function through the gateway, on time, as any caller would."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.gateway import Town, running_town
from tests.kit.patience import wait_until
from tests.kit.runs import NatsServer

pytestmark = pytest.mark.slow
HANDLER = (
    "def handle(event, context):\n"
    "    print('beat', event.method, event.body, event.headers['X-Topic'], event.headers['X-Connector'])\n"
    "    return {'statusCode': 500}\n"
)


def test_a_schedule_calls_its_function_and_wakes_it(town: Town) -> None:
    """From zero replicas; with the connector's headers, an id and a line that says how it was answered."""
    town.deploy(
        "beat", HANDLER, lang="python3-http", labels={"com.openfaas.scale.min": "0"},
        annotations={"topic": "cron-function", "schedule": "@every 1s"},
    )  # fmt: skip
    until = time.monotonic() + 30
    while town.log_text().count("beat POST b''") < 2 or "cron: answered 500" not in town.log_text():
        assert time.monotonic() < until, town.log_text()
        time.sleep(0.05)
    with town.http() as http:
        status = http.get("/system/function/beat").json()
        http.request("DELETE", "/system/functions", json={"functionName": "beat"})

    lines = [line for line in town.logged if line.text.startswith("beat POST")]
    assert "beat POST b'' cron-function cron-connector\n" == lines[0].text
    assert 26 == len(lines[0].call_id)
    assert status["tailrace"]["nextCall"].endswith("Z")


@pytest.mark.parametrize("more", [{}, {"topic": "orders"}])
def test_a_schedule_that_nothing_asks_for_is_told_in_the_log(town: Town, more: dict[str, str]) -> None:
    """Other connectors read annotations of that name, so it is no mistake for certain."""
    town.deploy(f"idle{len(more)}", HANDLER, annotations={"schedule": "*/5 * * * *", **more})

    told = [line.text for line in town.logged if line.function.name == f"idle{len(more)}"]
    assert ["note: its annotation 'schedule' counts only with 'topic: cron-function'"] == [
        text.partition(";")[0] for text in told if "schedule" in text
    ]


def test_a_text_that_is_no_schedule_is_refused(town: Town) -> None:
    with pytest.raises(AssertionError, match="'often' is no schedule"):
        town.deploy("odd", HANDLER, annotations={"topic": "cron-function", "schedule": "often"})


AT = """
def handle(event, context):
    print("at", event.headers["X-Tailrace-Scheduled-At"], flush=True)
    return {"statusCode": 200}
"""


def test_of_gateways_that_share_a_nats_one_makes_the_call_of_a_moment(tmp_path: Path) -> None:
    """And when NATS is gone, a moment is called twice before it is lost."""
    server = NatsServer(tmp_path)
    server.start()
    flags = {"nats_url": f"nats://127.0.0.1:{server.port}"}
    schedule = {"topic": "cron-function", "schedule": "@every 1s"}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    try:
        with (
            running_town(tmp_path / "a", flags=flags) as one,
            running_town(tmp_path / "b", flags=flags) as two,
        ):

            def calls() -> Counter[str]:
                return Counter(
                    line.text for town in (one, two) for line in town.logged if line.text[:2] == "at"
                )

            for town in (one, two):
                town.deploy("beat", AT, lang="python3-http", annotations=schedule)
            wait_until(lambda: len(calls()) >= 4, "four moments are called", 30)
            shared = calls()
            server.kill()
            wait_until(lambda: len(calls()) > len(shared) + 1, "calls go on without NATS", 60)
    finally:
        server.kill()

    assert {1} == set(shared.values())


ONCE_FAILING = """
import pathlib

def handle(event, context):
    seen = pathlib.Path(__file__).with_name("seen")
    first = not seen.exists()
    seen.touch()
    print("try", event.headers["X-Topic"], "fails" if first else "works", flush=True)
    return {"statusCode": 503 if first else 200}
"""


def test_a_schedule_may_hand_its_calls_to_the_queue(tmp_path: Path) -> None:
    """So that one that fails is tried again, and is a run."""
    with running_town(tmp_path, flags={"nats_url": "embedded"}) as town:
        town.deploy(
            "beat", ONCE_FAILING, lang="python3-http",
            annotations={
                "topic": "cron-function", "schedule": "@every 1s", "com.tailrace.cron.async": "true",
                "com.openfaas.retry.min_wait": "100ms",
            },
        )  # fmt: skip

        def tried_again() -> bool:
            with town.http() as http:
                runs = http.get("/runs", params={"function": "beat"}).json()["runs"]
            return any(run["state"] == "done" and run["attempts"] > 1 for run in runs)

        wait_until(tried_again, "a call that failed is tried again, and is a run", 30)

    assert "cron:" not in town.log_text()
