"""A schedule calls its function through the gateway, on time, as any caller would."""

from __future__ import annotations

import time

import pytest

from tests.kit.gateway import Town

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


def test_a_text_that_is_no_schedule_is_refused(town: Town) -> None:
    with pytest.raises(AssertionError, match="'often' is no schedule"):
        town.deploy("odd", HANDLER, annotations={"topic": "cron-function", "schedule": "often"})
