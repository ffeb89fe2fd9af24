"""Every request of the stock command line, sent as it sends it, is answered as it has to be.

The tables (`table/`) are the promises: a command, its request, and what the client then relies on.
"""

from __future__ import annotations

import pytest

from tests.compat.table import calls, functions, gateway, settled
from tests.compat.world import HELLO, World, image, secret
from tests.kit.replay import Case, differences, read_as, send

pytestmark = pytest.mark.slow
CASES = gateway.CASES + functions.CASES + calls.CASES + settled.CASES
# Four tokens, 0.1 s apart: the last comes 0.3 s after the first.
SPREAD_S = 0.2


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_of_faas_cli_is_answered_as_openfaas_would(world: World, case: Case) -> None:
    """Status, headers and the shape of the body."""
    if case.waits_for:
        pytest.skip(f"waits for {case.waits_for}")
    for make_it_so in case.given:
        make_it_so(world)

    reply = send(world.port, case.request, case.headers, case.body, until=case.until)

    assert reply.status in case.statuses, reply
    found = dict(reply.headers)
    for name, wanted in case.replied.items():
        assert [] == differences(wanted, found.get(name), name)
    assert [] == differences(case.shape, read_as(found.get("content-type", ""), reply))
    if case.is_streamed:
        assert reply.arrived_s[-1] - reply.arrived_s[0] > SPREAD_S


def test_each_case_is_there_once() -> None:
    """A promise that stands twice would be kept up in one place only."""
    names = [str(case) for case in CASES]

    assert sorted(set(names)) == sorted(names)


def test_everything_that_can_be_deployed_comes_back(world: World) -> None:
    """Each field of the contract, those that have no effect here among them."""
    for is_so in (image("second"), secret("api-key"), secret("other")):
        is_so(world)
    gpus = {"nvidia.com/gpu": "1", "amd.com/gpu": "2", "intel.com/gpu": "3"}
    body = {
        **HELLO, "service": "whole", "image": "ghcr.io/lab/second:0.1", "secrets": ["api-key", "other"],
        "limits": {"memory": "1Gi", "cpu": "2", **gpus}, "requests": {"memory": "1Mi", "cpu": "1m", **gpus},
    }  # fmt: skip

    reply = world.http.post("/system/functions", json=body)

    found = world.http.get("/system/function/whole").json()
    world.remove("whole", "openfaas-fn")
    assert 202 == reply.status_code
    asked = {key: value for key, value in body.items() if key != "service"}
    assert asked == {key: found.get(key) for key in asked}


def test_a_secret_s_raw_value_wins(world: World) -> None:
    """faas-cli sends both of a file; only one of them keeps what is no text."""
    handler = (
        "def handle(req):\n"
        "    with open('/var/openfaas/secrets/raw', 'rb') as file:\n"
        "        return file.read().hex()\n"
    )
    body = {"name": "raw", "value": "text", "rawValue": "AP8K"}
    created = world.http.post("/system/secrets", json=body)

    world.town.deploy("reads", handler, secrets=["raw"])
    answer = world.http.post("/function/reads").text

    assert 202 == created.status_code
    assert "00ff0a" == answer
