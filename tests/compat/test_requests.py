"""Every request of the stock command line, sent as it sends it, is answered as it has to be.

The tables (`table/`) are the promises: a command, its request, and what the client then relies on.
"""

from __future__ import annotations

import pytest

from tests.compat.table import calls, functions, gateway, settled
from tests.compat.world import World
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
